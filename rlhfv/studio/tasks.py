"""The Tasks tab: what comes in to be corrected, answers written in advance, and how the queue hands the work out."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from rlhfv.corrections.conversation import Sampling
from rlhfv.corrections.task_files import PICTURES
from rlhfv.corrections.tasks import TaskCounts
from rlhfv.services import Actor, Services
from rlhfv.services.answering import Written
from rlhfv.services.queue import Intake
from rlhfv.studio import tasks_view as shown
from rlhfv.studio.chat_view import alert
from rlhfv.studio.events import explain, private
from rlhfv.studio.jobs import Job, Jobs, Tell
from rlhfv.studio.view import h, view
from rlhfv.studio.view import pager as turn_pages
from rlhfv.studio.visitor import actor

PAGE = 20
ANSWERS = "answers"
"""Answers are written by one job a studio, whoever of its owners began it."""


@dataclass(frozen=True)
class TasksTab:
    """`show(who, due)` fills the tab; `due` is its filter of the list."""

    outputs: tuple
    due: gr.Dropdown
    show: Callable[..., dict]


def build(services: Services) -> TasksTab:
    queue, team, jobs = services.queue, services.settings.team, Jobs()
    stopping = threading.Event()

    refusal = view(elem_id="tasks-refused")
    with gr.Row(elem_classes="workbench", elem_id="tasks") as desk:
        with gr.Column(scale=5, min_width=300, elem_classes="side"):
            view(
                h("h3", "Bring work in"),
                h(
                    "p.hint",
                    "Pictures, each of which is asked every question; or rows of a JSONL file with image, question "
                    "and, where there is one, the answer and its model.",
                ),
                elem_id="tasks-intro",
            )
            questions = gr.Textbox(
                label="Questions, one a line",
                placeholder="Describe this image in detail.",
                lines=2,
                max_lines=8,
                max_length=20_000,
                elem_id="tasks-questions",
            )
            batch = gr.Textbox(label="Name of this lot (optional)", max_length=200, elem_id="tasks-batch")
            upload = gr.UploadButton(
                "Pictures, a JSONL file or a zip",
                file_count="multiple",
                file_types=[*PICTURES, ".jsonl", ".zip"],
                variant="primary",
                size="sm",
                elem_id="tasks-upload",
            )
            with gr.Row(elem_classes="tight"):
                repo = gr.Textbox(
                    label="Or a data set on the Hub",
                    placeholder="owner/name",
                    max_length=200,
                    scale=3,
                    min_width=150,
                    elem_id="tasks-repo",
                )
                limit = gr.Number(
                    200, label="At most rows", precision=0, minimum=1, scale=1, min_width=90, elem_id="tasks-limit"
                )
            from_hub = gr.Button("Take in from the Hub", size="sm", elem_id="tasks-from-hub")
            came = view(elem_id="tasks-came")
            view(h("h3", "Answers in advance"), elem_id="tasks-answers-intro")
            voice = gr.Dropdown([], label="Who answers", filterable=False, elem_id="tasks-voice")
            temperature = gr.Slider(
                0,
                2,
                0,
                step=0.05,
                label="Temperature",
                info="0 is greedy: always the likeliest word.",
                elem_id="tasks-temperature",
            )
            with gr.Row(elem_classes="tight"):
                write = gr.Button("Write the answers", variant="primary", size="sm", elem_id="tasks-write")
                stop = gr.Button("Stop", size="sm", visible=False, elem_id="tasks-stop")
            written = view(elem_id="tasks-written")
            with gr.Accordion("How work is handed out", open=False, elem_id="queue-settings"):
                second = gr.Slider(
                    0,
                    1,
                    0.1,
                    step=0.05,
                    label="Share for a second annotator",
                    info="Drawn by lot; the second does not see the first correction, nor hints.",
                    visible=team,
                    elem_id="queue-second",
                )
                gold = gr.Slider(
                    0,
                    1,
                    0.05,
                    step=0.05,
                    label="Share of gold items",
                    info="Their corrections are known; they look like all others.",
                    elem_id="queue-gold",
                )
                minutes = gr.Number(
                    30, label="An opened item stays reserved, in minutes", minimum=1, elem_id="queue-minutes"
                )
                guideline = gr.Textbox(
                    label="Guideline, shown beside the editor", lines=6, max_lines=20, elem_id="queue-guideline"
                )
                keep = gr.Button("Save", variant="primary", size="sm", elem_id="queue-save")
                kept = view(elem_id="queue-kept")
        with gr.Column(scale=9, min_width=300):
            standing = view(elem_id="tasks-status", label="How far the work is")
            quality = view(elem_id="tasks-quality", visible=team)
            due = gr.Dropdown(
                shown.due_choices(),
                value=shown.ANY,
                label="Show",
                filterable=False,
                min_width=160,
                elem_id="tasks-due",
            )
            listing = view(elem_id="tasks-list", label="Tasks")
            pager = view(elem_id="tasks-pager")
    timer = gr.Timer(1.0, active=False)

    fields = (second, gold, minutes, guideline)
    state = (standing, listing, pager, quality, written, write, stop, timer)
    outputs = (refusal, desk, came, voice, kept, *fields, *state)

    def show(who: Actor, of_kind: str = shown.ANY) -> dict:
        """The whole tab for whoever manages the studio; for others, why there is nothing."""
        if "manage" not in who.rights:
            return {refusal: shown.refused(), desk: gr.Row(visible=False), timer: gr.Timer(active=False)}
        settings = queue.settings(who)
        voices = [(each.title, each.id) for each in services.chat.studio(who).voices]
        return {
            refusal: [],
            desk: gr.Row(visible=True),
            came: [],
            kept: [],
            voice: gr.Dropdown(voices, value=voices[0][1]),
            second: settings.second_share,
            gold: settings.gold_share,
            minutes: settings.reserve_minutes,
            guideline: settings.guideline,
            **show_state(who, of_kind),
        }

    def show_state(who: Actor, of_kind: str, start: int = 0) -> dict:
        """What changes while work comes in and is done."""
        status, job = queue.status(who), jobs.of(ANSWERS)
        running = job is not None and job.running
        return {
            standing: shown.standing(status, team),
            **show_list(who, of_kind, start, status.counts),
            quality: shown.quality(queue.agreement(who), queue.gold_scores(who), status.counts.gold) if team else [],
            written: shown.writing(job) if job else [],
            write: gr.Button(interactive=not running),
            stop: gr.Button(visible=running),
            timer: gr.Timer(active=running),
        }

    def show_list(who: Actor, of_kind: str, start: int, counts: TaskCounts) -> dict:
        found = queue.tasks(who, None if of_kind == shown.ANY else of_kind, start, PAGE)
        return {listing: shown.listing(found), pager: turn_pages(start, PAGE, shown.number(counts, of_kind), "tasks")}

    def take_in(who: Actor, of_kind: str, work: Callable[[Callable[[int], None]], Intake]) -> Iterator[dict]:
        """Shows how many were read while `work(progress)` reads them, then what came of it."""
        job = Job("take in", lambda tell: work(lambda number: tell("", number, 0)))
        job.start()
        while job.running:
            yield {came: shown.reading(job)}
            job.wait(0.4)
        if job.error:
            yield {came: alert(*job.error)}
            return
        yield {**show_state(who, of_kind), came: shown.taken_in(job.result)}

    def take_uploads(request: gr.Request, files: list[str] | None, asked: str, lot: str, of_kind: str):
        if not files:
            return
        who, paths = actor(request), [Path(file) for file in files]
        try:
            yield from take_in(
                who, of_kind, lambda told: queue.add_uploads(who, paths, lines(asked), (lot or "").strip(), told)
            )
        finally:
            for path in paths:
                path.unlink(missing_ok=True)

    def take_dataset(request: gr.Request, name: str, most: float | None, asked: str, lot: str, of_kind: str):
        who = actor(request)
        token = services.publishing.own_token(who)
        count = int(most) if most else None
        yield from take_in(
            who,
            of_kind,
            lambda told: queue.add_dataset(
                who, (name or "").strip(), lines(asked), (lot or "").strip(), count, token, told
            ),
        )

    def begin_writing(request: gr.Request, chosen: str, heat: float, of_kind: str):
        who = actor(request)
        who.require("manage")

        def work(tell: Tell) -> Written | None:
            state = None
            for state in services.answering.write(who, chosen or "", Sampling(float(heat)), stop=stopping):
                tell("", state.done, state.total)
            return state

        try:
            stopping.clear()
            jobs.begin(ANSWERS, ANSWERS, work).wait(0.3)
        except Exception as error:
            return {written: alert(*explain(error))}
        return show_state(who, of_kind)

    def stop_writing(request: gr.Request, of_kind: str):
        who = actor(request)
        who.require("manage")
        stopping.set()
        if job := jobs.of(ANSWERS):
            job.wait(10)
        return show_state(who, of_kind)

    def tick(request: gr.Request, of_kind: str):
        return show_state(actor(request), of_kind)

    def turn(event: gr.EventData, request: gr.Request, of_kind: str):
        who = actor(request)
        return show_list(who, of_kind, int(event.ref), queue.status(who).counts)

    def save_settings(request: gr.Request, to_second, to_gold, reserved, text):
        changes = {"gold_share": to_gold, "reserve_minutes": reserved, "guideline": text or ""}
        if team:
            changes["second_share"] = to_second
        try:
            queue.change_settings(actor(request), **changes)
        except Exception as error:
            return alert(*explain(error))
        return [h("p.done", "Saved; it holds for what is handed out from now on.", role="status")]

    files = {"concurrency_id": "files", "concurrency_limit": 2}
    private(upload.upload, take_uploads, [upload, questions, batch, due], list(outputs), **files)
    private(from_hub.click, take_dataset, [repo, limit, questions, batch, due], list(outputs), **files)
    private(write.click, begin_writing, [voice, temperature, due], list(state))
    private(stop.click, stop_writing, due, list(state))
    private(timer.tick, tick, due, list(state), concurrency_limit=None, concurrency_id=None)
    private(due.input, tick, due, list(state), trigger_mode="always_last")
    private(pager.select, turn, due, [listing, pager])
    private(keep.click, save_settings, list(fields), kept)

    return TasksTab(outputs, due, show)


def lines(text: str | None) -> tuple[str, ...]:
    """The lines of a field that are not blank."""
    return tuple(line.strip() for line in (text or "").splitlines() if line.strip())
