"""Voices answer a benchmark from the page, one after the other. It goes on when the page is closed, and every page of
the same person shows how far it is and can stop it."""

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import gradio as gr

from rlhfv.errors import InvalidData, NotFound, StudioError
from rlhfv.evaluation.benchmarks import find_benchmark
from rlhfv.models.decoding import DECODINGS
from rlhfv.services import Actor, Services
from rlhfv.services.actor import hiding
from rlhfv.services.benchmarking import Benchmarking, Progress
from rlhfv.services.model_host import Voice
from rlhfv.studio import benchmark_answers_view as shown
from rlhfv.studio.chat_view import alert
from rlhfv.studio.events import explain, private
from rlhfv.studio.jobs import Job, Jobs, Tell
from rlhfv.studio.view import view
from rlhfv.studio.visitor import actor

STOP_SECONDS = 10.0
"""How long a page waits for what is under way when it is stopped."""


@dataclass
class Turn:
    """One voice's part of the work: how far it is, or why it could not go on."""

    voice: Voice
    progress: Progress | None = None
    error: tuple[str, str, str] | None = None
    ended: bool = False


@dataclass
class Answering:
    """What was asked for. `title` is the benchmark's."""

    benchmark: str
    title: str
    decoding: str
    turns: list[Turn]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def ended(self) -> list[Turn]:
        return [turn for turn in self.turns if turn.ended]

    def run(self, benchmarking: Benchmarking, who: Actor) -> None:
        """What keeps one voice from answering does not keep the next."""
        for turn in self.turns:
            if self.stop.is_set():
                return
            try:
                for state in benchmarking.answer(who, self.benchmark, turn.voice.id, self.decoding, self.stop):
                    turn.progress = state
                # What was under way when it was stopped may have been kept too.
                if turn.progress:
                    turn.progress = replace(turn.progress, done=benchmarking.answer_set(who, turn.progress.id).done)
            except Exception as error:
                turn.error = explain(error)
            turn.ended = True


@dataclass(frozen=True)
class AnsweringPart:
    """`refresh(who, *kept)` fills it. `connect` tells it how sets are chosen for a comparison when a voice has
    answered: `choose(who, before, after, asked)`, which changes `outputs`; `asked` is what is compared now."""

    kept: tuple
    outputs: tuple
    refresh: Callable[..., dict]
    connect: Callable[[Callable[[Actor, str, str, tuple], dict], gr.State, Sequence], None]


def build(services: Services) -> AnsweringPart:
    benchmarking, reporting, host = services.benchmarking, services.reporting, services.host
    jobs = Jobs()

    with gr.Accordion("Let voices answer", open=False, elem_id="let-answer") as part:
        wanting = view(elem_id="answer-wanting")
        with gr.Column(elem_id="answer-form", elem_classes="side") as form:
            benchmark = gr.Dropdown([], label="Benchmark", filterable=False, elem_id="answer-benchmark")
            judging = view(elem_id="answer-judging")
            voices = gr.CheckboxGroup([], label="Who answers", elem_id="answer-voices")
            decoding = gr.Dropdown(
                list(DECODINGS),
                value=next(iter(DECODINGS)),
                label="Decoded as",
                filterable=False,
                info="rlhfv is what the paper's code does: 3 beams, repetition penalty 1.1. Sets are compared only "
                "where they were decoded in the same way.",
                elem_id="answer-decoding",
            )
            with gr.Row(elem_classes="tight"):
                go = gr.Button("Answer", variant="primary", size="sm", elem_id="answer-go")
                stop = gr.Button("Stop", size="sm", visible=False, elem_id="answer-stop")
            sending = view(elem_id="answer-sending", label="What is sent to a server")
        told = view(elem_id="answer-told", label="How far the answers are")
        others = view(elem_id="answer-others")
    seen, timer = gr.State(None), gr.Timer(1.0, active=False)

    state = (told, go, stop, timer, seen)
    kept = (benchmark, voices, decoding)
    outputs = (part, wanting, form, judging, sending, others, *kept, *state)

    def key(who: Actor) -> str:
        """Whose work it is: as with the sets, everybody's on a machine of one person."""
        return "" if services.settings.single_user else who.visitor

    def working(who: Actor) -> tuple[Job | None, Answering | None]:
        job = jobs.of(key(who))
        return job, job and job.about

    def offered_voices(who: Actor) -> list[Voice]:
        """What a server charges is paid by whoever runs the studio."""
        sends = services.settings.single_user or "manage" in who.rights
        return [voice for voice in host.voices(who) if sends or not voice.server]

    def tell_sent(who: Actor, kind: str | None, ticked: Sequence[str]) -> list:
        servers = [voice for voice in offered_voices(who) if voice.server and voice.id in ticked]
        if not servers or not kind:
            return []
        try:
            with hiding(who, benchmarking.root):
                return shown.sending(find_benchmark(kind).read_items(benchmarking.root), servers)
        except StudioError as error:
            return alert(*explain(error))

    def tick_voices(request: gr.Request, kind: str | None, ticked: list[str] | None):
        who = actor(request)
        who.require("train")
        return tell_sent(who, kind, ticked or ())

    def refresh(
        who: Actor, kind: str | None = None, ticked: Sequence[str] | None = None, how: str | None = None
    ) -> dict:
        """What was chosen stays; a new page begins with what was asked for last, so that Answer goes on with it."""
        if not benchmarking.may_answer(who):
            return {part: gr.Accordion(visible=False), timer: gr.Timer(active=False)}
        offered = benchmarking.benchmarks(who)
        judge = services.settings.judge is not None
        ready = [(shown.name(one, judge), one.benchmark.name) for one in offered if one.ready]
        every = offered_voices(who)
        job, last = working(who)
        running = job is not None and job.running
        if last and not (kind and ticked):
            kind, ticked, how = last.benchmark, [turn.voice.id for turn in last.turns], last.decoding
        ids, names = [voice.id for voice in every], [name for _, name in ready]
        own = [voice.id for voice in every if not voice.server]  # nothing goes to a server that nobody ticked
        ticked = [id for id in ids if id in (ticked or ())] or [id for id in own if id in first_ticked(who)]
        kind = kind if kind in names else next(iter(names), None)
        folder = str(benchmarking.root) if "manage" in who.rights else ""
        return {
            part: gr.Accordion(visible=True, open=True) if running else gr.Accordion(visible=True),
            wanting: [] if ready else shown.no_files(folder, offered),
            others: shown.other_files(folder, offered) if ready else [],
            form: gr.Column(visible=bool(ready)),
            judging: shown.start_a_judge(offered) if folder and not judge else [],
            sending: tell_sent(who, kind, ticked),
            benchmark: gr.Dropdown(ready, value=kind),
            voices: gr.CheckboxGroup([(shown.voice(one), one.id) for one in every], value=ticked),
            decoding: how if how in DECODINGS else next(iter(DECODINGS)),
            **show_state(who),
        }

    def first_ticked(who: Actor) -> list[str]:
        """Those of the chat's columns, with the newest adapter where one stands there."""
        adapters = [voice.id for voice in host.local_voices(who) if voice.adapter and voice.base == host.first.key]
        return [adapters[-1] if id in adapters else id for id in host.first_two(who)]

    def show_state(who: Actor) -> dict:
        job, answering = working(who)
        running = job is not None and job.running
        # Taken first: what changes meanwhile differs from it at the next tick, and is shown then.
        signature = _signature(answering, running)
        return {
            told: shown.standing(answering, running) if answering else [],
            go: gr.Button(interactive=not running),
            stop: gr.Button(visible=running, interactive=running and not answering.stop.is_set()),
            timer: gr.Timer(active=running),
            seen: signature,
        }

    def begin(request: gr.Request, kind: str | None, ticked: list[str] | None, how: str):
        who = actor(request)
        try:
            if not benchmarking.may_answer(who):
                who.require("manage")
            chosen = [voice for voice in offered_voices(who) if voice.id in (ticked or ())]
            titles = {one.benchmark.name: one.benchmark.title for one in benchmarking.benchmarks(who)}
            if kind not in titles or not chosen:
                raise InvalidData(
                    f"No {'voice' if kind in titles else 'benchmark'} is chosen.",
                    "Each voice that is ticked answers all questions of one benchmark.",
                    "Choose a benchmark and tick who is to answer it.",
                )
            new = Answering(kind, titles[kind], how, [Turn(voice) for voice in chosen])

            def work(tell: Tell) -> None:
                new.run(benchmarking, who)

            job = jobs.begin(key(who), "answers to a benchmark", work, new)
            job.wait(0.3)
        except Exception as error:
            now = show_state(who)
            return {**now, told: [*alert(*explain(error)), *now[told]]}
        # A tick follows in any case: it chooses the sets of what has ended by now.
        return {**show_state(who), timer: gr.Timer(active=True), seen: (new.id, 0)}

    def stop_answering(request: gr.Request):
        who = actor(request)
        who.require("train")
        job, answering = working(who)
        if job and answering:
            answering.stop.set()
            job.wait(STOP_SECONDS)
        now = show_state(who)
        return {told: now[told], stop: now[stop], timer: gr.Timer(active=True)}

    def connect(choose: Callable[[Actor, str, str, tuple], dict], asked: gr.State, changed: Sequence) -> None:
        def tick(request: gr.Request, before, compared):
            who = actor(request)
            who.require("train")
            now = show_state(who)
            if now[seen] == before:
                return gr.skip()
            _, answering = working(who)
            done = [turn.progress.id for turn in answering.ended if turn.progress and turn.progress.done]
            if not done or before is None or before[:2] == now[seen][:2]:
                return now
            try:
                return {**now, **choose(who, *reporting.beside(who, done[-1]), compared)}
            except NotFound:  # deleted meanwhile
                return now

        private(timer.tick, tick, [seen, asked], [*state, *changed], concurrency_limit=None, concurrency_id=None)

    for choice in (benchmark, voices):
        private(choice.input, tick_voices, [benchmark, voices], sending, trigger_mode="always_last")
    private(go.click, begin, [benchmark, voices, decoding], list(state))
    private(stop.click, stop_answering, None, list(state))
    return AnsweringPart(kept, outputs, refresh, connect)


def _signature(answering: Answering | None, running: bool) -> tuple | None:
    """What is shown; its first two parts change when a voice has ended."""
    if answering is None:
        return None
    standing = [(turn.progress.done, len(turn.progress.failures)) if turn.progress else () for turn in answering.turns]
    return (answering.id, len(answering.ended), running, answering.stop.is_set(), *standing)
