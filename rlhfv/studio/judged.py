"""Asking a judge for what two sets of answers need before they can be compared. It goes on when the page is closed,
and every page of the same person shows how far it is and can stop it."""

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import gradio as gr

from rlhfv.evaluation.benchmarks import find_benchmark
from rlhfv.services import Actor, Services
from rlhfv.studio import judged_view as shown
from rlhfv.studio.chat_view import alert
from rlhfv.studio.events import explain, private
from rlhfv.studio.jobs import Job, Jobs, Tell
from rlhfv.studio.view import view
from rlhfv.studio.visitor import actor

STOP_SECONDS = 10.0
"""How long a page waits for what is under way when it is stopped."""
NOTHING = ("", "", "")
Compared = tuple[str, str, str]
"""The ids of two sets, and how they are counted."""


@dataclass
class Asking:
    """What a judge is asked for: `done` of `total` requests have a reply."""

    compared: Compared
    model: str
    done: int
    total: int
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    stop: threading.Event = field(default_factory=threading.Event)

    def move(self, done: int, total: int) -> None:
        self.done, self.total = done, total


@dataclass(frozen=True)
class JudgingPart:
    """`choose(who, sets, ways)` says what to do where the chosen sets cannot be counted in any way. `ask_first(who,
    compared)` asks where a comparison takes replies that are not there yet, and is {} where it takes none. `connect`
    is told how two sets are compared, `compare(who, compared)`, which changes the outputs given."""

    outputs: tuple
    choose: Callable[[Actor, Sequence[str], Sequence[str]], dict]
    ask_first: Callable[[Actor, Compared], dict]
    connect: Callable[[Callable[[Actor, Compared], dict], Sequence], None]


def build(services: Services) -> JudgingPart:
    judged = services.judged
    jobs = Jobs()

    told = view(elem_id="compare-judge", label="The judge")
    wanted, seen, timer = gr.State(NOTHING), gr.State(None), gr.Timer(1.0, active=False)
    outputs = (told, wanted, seen, timer)

    def key(who: Actor) -> str:
        """Whose work it is: as with the sets, everybody's on a machine of one person."""
        return "" if services.settings.single_user else who.visitor

    def working(who: Actor) -> tuple[Job | None, Asking | None, bool]:
        """The job, what it asks for, and whether it runs: looked at once, for it may end at any moment."""
        job = jobs.of(key(who))
        return job, job and job.about, job is not None and job.running

    def show_state(who: Actor, otherwise: Sequence = ()) -> dict:
        _, asking, running = working(who)
        return show(asking, running, otherwise)

    def show(asking: Asking | None, running: bool, otherwise: Sequence = ()) -> dict:
        """How far it is; `otherwise` where nothing is under way."""
        return {
            told: shown.under_way(asking) if running else list(otherwise),
            timer: gr.Timer(active=running),
            seen: _signature(asking, running),
        }

    def choose(who: Actor, chosen: Sequence[str], ways: Sequence[str]) -> dict:
        note = []
        if chosen and not ways:
            kind = services.benchmarking.answer_set(who, chosen[0]).stamp.benchmark
            note = shown.no_judge(find_benchmark(kind).title, judged.command(who, chosen))
        _, asking, running = working(who)
        # Whoever comes back to what is being judged sees it compared at the end.
        same = running and tuple(chosen) == asking.compared[:2]
        return {**show(asking, running, note), wanted: asking.compared if same else NOTHING}

    def ask_first(who: Actor, compared: Compared) -> dict:
        needed = judged.to_ask(who, *compared)
        return {**show_state(who, shown.ask(needed)), wanted: compared} if needed else {}

    def begin(who: Actor, compared: Compared, compare: Callable[[Actor, Compared], dict]) -> dict:
        needed = judged.to_ask(who, *compared)
        if needed is None:  # it was asked meanwhile
            return compare(who, compared)
        requests, waiting = needed.standing.requests, needed.standing.waiting
        new = Asking(compared, needed.model, requests - waiting, requests)

        def work(tell: Tell) -> None:
            judged.ask(who, *compared, new.stop, new.move)

        job = jobs.begin(key(who), "judging", work, new)
        job.wait(0.3)
        # A tick follows in any case: it compares what is judged by now.
        return {**show_state(who, shown.under_way(new)), timer: gr.Timer(active=True), seen: (new.id, None)}

    def stop_asking(who: Actor) -> dict:
        job, asking, _ = working(who)
        if job:
            asking.stop.set()
            job.wait(STOP_SECONDS)
        return {told: show_state(who)[told], timer: gr.Timer(active=True)}

    def connect(compare: Callable[[Actor, Compared], dict], changed: Sequence) -> None:
        def act(event: gr.EventData, compared: Compared, request: gr.Request) -> dict:
            who = actor(request)
            if event.act in ("cancel", "partly"):
                shown_now = compare(who, compared) if event.act == "partly" else {}
                return {**shown_now, **show_state(who), wanted: NOTHING}
            try:
                who.require("manage")
                return begin(who, compared, compare) if event.act == "ask" else stop_asking(who)
            except Exception as error:
                return {told: alert(*explain(error))}

        def tick(request: gr.Request, before, compared: Compared):
            who = actor(request)
            who.require("train")
            job, asking, running = working(who)
            now = show(asking, running)
            if now[seen] == before:
                return gr.skip()
            if job is None or running:
                return now
            now[told] = shown.ended(asking, job.error)
            # Another page of the same person began it, or something else was chosen meanwhile.
            return {**now, **finish(who, job, asking, now[told])} if compared == asking.compared else now

        def finish(who: Actor, job: Job, asking: Asking, ending: list) -> dict:
            try:
                left = judged.to_ask(who, *asking.compared)
            except Exception as error:
                return {told: alert(*explain(error)), wanted: NOTHING}
            if left and (job.error or asking.stop.is_set() or not left.some):
                return {told: [*ending, *shown.ask(left, again=True)]}
            ending = shown.unanswered(left) if left else ending
            return {**compare(who, asking.compared), told: ending, wanted: NOTHING}

        everything = list(dict.fromkeys((*outputs, *changed)))
        private(told.select, act, wanted, everything)
        private(timer.tick, tick, [seen, wanted], everything, concurrency_limit=None, concurrency_id=None)

    return JudgingPart(outputs, choose, ask_first, connect)


def _signature(asking: Asking | None, running: bool) -> tuple | None:
    """What is shown."""
    return None if asking is None else (asking.id, running, asking.stop.is_set(), asking.done)
