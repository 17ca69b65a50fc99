"""The Evaluate tab: is a voice better than the baseline, and at what price."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gradio as gr

from rlhfv.services import Actor, Services
from rlhfv.services.evaluating import MAX_SCENES
from rlhfv.services.memory import ASK, MemoryShort
from rlhfv.studio import benchmarks, evaluate_view, leaderboard, runs_view
from rlhfv.studio.chat_view import alert
from rlhfv.studio.events import explain, private
from rlhfv.studio.view import Node, button, empty, h, progress, view
from rlhfv.studio.visitor import actor

EMPTY = (
    "No evaluation yet.",
    "Choose an adapter above and start one: both voices describe the same unseen scenes.",
)
NOTHING_TRAINED = "Train one in Train; it is offered here when it is done."
ON_SERVERS = "An evaluation loads the weights of its voices, and a server gives none; compare such voices in Chat."
FEW_SCENES = 100


@dataclass(frozen=True)
class EvaluateTab:
    """`refresh(who, *kept)` fills the tab."""

    kept: tuple
    outputs: tuple
    refresh: Callable[..., dict]


def build(services: Services) -> EvaluateTab:
    """Drawn scenes where the model has a world of them, answers to benchmarks, and all adapters with their figures."""
    parts = []
    with gr.Tabs(elem_id="evaluate-parts"):
        if services.evaluation.can_evaluate():
            with gr.Tab("Drawn scenes", id="scenes", elem_id="part-scenes"):
                parts.append(_build_scenes(services))
        with gr.Tab("Benchmarks", id="benchmarks", elem_id="part-benchmarks"):
            parts.append(benchmarks.build(services))
        with gr.Tab("Leaderboard", id="leaderboard", elem_id="part-leaderboard") as board:
            leaderboard.build(services, board)

    def refresh(who: Actor, *kept) -> dict:
        found, values = {}, iter(kept)
        for part in parts:
            found |= part.refresh(who, *(value for _, value in zip(part.kept, values, strict=False)))
        return found

    kept, outputs = (tuple(each for part in parts for each in getattr(part, name)) for name in ("kept", "outputs"))
    return EvaluateTab(kept, outputs, refresh)


def _build_scenes(services: Services) -> EvaluateTab:
    evaluation, chat = services.evaluation, services.chat

    with gr.Row(elem_classes="workbench"):
        with gr.Column(scale=4, min_width=280, elem_classes="side", elem_id="evaluate-form"):
            voices = gr.CheckboxGroup([], label="Adapters to compare with the baseline", elem_id="evaluate-voices")
            scenes = gr.Slider(
                10,
                MAX_SCENES,
                FEW_SCENES,
                step=10,
                label="Test scenes",
                info="More scenes, narrower intervals. The figures of the README use 500.",
                elem_id="evaluate-scenes",
            )
            start = gr.Button("Start evaluation", variant="primary", size="sm", elem_id="start-evaluation")
            view(
                h(
                    "p.hint",
                    "Test scenes were never seen in training. Each claim of an answer is checked against the drawing.",
                ),
                elem_id="evaluate-hint",
            )
            listing = view(elem_id="evaluations", label="Evaluations")
        with gr.Column(scale=9, min_width=300):
            message = view(elem_id="evaluate-message")
            heading = view(elem_id="evaluation-heading")
            verdicts = view(elem_id="evaluation-verdicts")
            figures = view(elem_id="evaluation-figures")
            examples = view(elem_id="evaluation-examples")
            log = view(elem_id="evaluation-log")
    chosen, seen, confirming = gr.State(""), gr.State(None), gr.State("")
    timer = gr.Timer(1.5, active=False)

    run_outputs = (listing, heading, verdicts, figures, examples, log, chosen, seen, timer)
    outputs = (*run_outputs, voices, message)

    def show_runs(who: Actor, run_id: str, sure: str = "", before=None):
        runs = evaluation.runs(who)
        run = next((each for each in runs if each.id == run_id), None)
        run = run or next((each for each in runs if each.state in runs_view.OPEN), runs[0] if runs else None)
        nothing = {verdicts: [], figures: [], examples: []}
        if run is None:
            return {
                **nothing,
                listing: runs_view.listing([], "", *EMPTY),
                heading: [],
                log: [],
                chosen: "",
                seen: None,
                timer: gr.Timer(active=False),
            }
        signature = [[(each.id, each.state, each.step, each.place) for each in runs], run.id]
        if signature == before:
            return gr.skip()
        results = evaluation.results(who, run.id) if run.state == "done" else None
        found = nothing
        if results is not None:
            found = {
                verdicts: evaluate_view.verdicts(results),
                figures: evaluate_view.figures(results),
                examples: evaluate_view.examples(results, evaluation.picture),
            }
        return {
            **found,
            listing: runs_view.listing(runs, run.id, *EMPTY),
            heading: runs_view.heading(run, _acts(run, sure == run.id), "Answer"),
            log: runs_view.log(run.lines),
            chosen: run.id,
            seen: signature,
            timer: gr.Timer(active=any(each.state in runs_view.OPEN for each in runs)),
        }

    def refresh(who: Actor, run_id: str = "", ticked: list[str] | None = None) -> dict:
        every = chat.studio(who).voices
        offered = [(voice.title, voice.id) for voice in services.host.world_adapters(who)]
        remote = [voice.title for voice in every if voice.server]
        ticked = [voice for _, voice in offered if voice in (ticked or ())] or [voice for _, voice in offered[-1:]]
        return {
            **show_runs(who, run_id),
            voices: gr.CheckboxGroup(offered, value=ticked),
            message: [
                *([] if offered else [empty("No adapter to evaluate.", NOTHING_TRAINED)]),
                *([h("p.hint", f"Not here: {', '.join(remote)}. {ON_SERVERS}")] if remote else []),
            ],
        }

    def tick(run_id, before, sure, request: gr.Request):
        return show_runs(actor(request), run_id, sure, before)

    def open_run(event: gr.EventData, request: gr.Request):
        return {**show_runs(actor(request), event.ref), confirming: "", message: []}

    def begin(who: Actor, go: Callable[[], str], again: str) -> Iterator[dict]:
        """Starts or resumes with `go`, which returns the run's id; asks where memory is short."""
        yield {message: [progress(None, "Freezing the adapters into a run …")]}
        try:
            run_id = go()
        except MemoryShort as short:
            yield {message: runs_view.ask_for_room(short, again)}
        except Exception as error:
            yield {message: alert(*explain(error))}
        else:
            yield {**show_runs(who, run_id), message: [], confirming: ""}

    def start_with(who: Actor, room: str, ticked, count) -> Iterator[dict]:
        yield from begin(who, lambda: evaluation.start(who, list(ticked or ()), int(count), room=room), "")

    def resume(who: Actor, run_id: str, room: str) -> Iterator[dict]:
        yield from begin(who, lambda: evaluation.resume(who, run_id, room).id, run_id)

    def start_run(ticked, count, request: gr.Request):
        yield from start_with(actor(request), ASK, ticked, count)

    def answer_room(event: gr.EventData, ticked, count, request: gr.Request):
        if event.act == "cancel":
            yield {message: []}
        elif event.ref:
            yield from resume(actor(request), event.ref, event.act)
        else:
            yield from start_with(actor(request), event.act, ticked, count)

    def act(event: gr.EventData, request: gr.Request):
        who, run_id = actor(request), event.ref
        sure, note = "", []
        if event.act == "resume":
            yield from resume(who, run_id, ASK)
            return
        try:
            if event.act == "ask-delete":
                sure = run_id
            elif event.act == "delete":
                evaluation.delete(who, run_id)
                note = [h("p.done", "The evaluation is deleted.", role="status")]
            elif event.act == "stop":
                evaluation.stop(who, run_id)
        except Exception as error:
            note = alert(*explain(error))
        yield {**show_runs(who, run_id, sure), confirming: sure, message: note}

    private(timer.tick, tick, [chosen, seen, confirming], run_outputs, concurrency_limit=None, concurrency_id=None)
    private(listing.select, open_run, None, [*run_outputs, confirming, message], trigger_mode="multiple")
    for event, function in ((start.click, start_run), (message.select, answer_room)):
        private(event, function, [voices, scenes], [*run_outputs, message, confirming])
    private(heading.select, act, None, [*run_outputs, confirming, message])

    return EvaluateTab((chosen, voices), outputs, refresh)


def _acts(run, confirming: bool) -> list[Node]:
    if confirming:
        return runs_view.confirm_delete(run)
    return [
        *(
            [button("Stop", "stop", run.id, "danger")]
            if run.state in ("queued", "starting", "running", "stopping")
            else []
        ),
        *([button("Resume", "resume", run.id, "primary")] if run.state in ("stopped", "failed") else []),
        *([button("Delete", "ask-delete", run.id, "quiet")] if run.state not in runs_view.ALIVE else []),
    ]
