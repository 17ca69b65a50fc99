"""The guide of a first run: a strip above the tabs that shows how far the visitor truly is, and the next step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gradio as gr

from rlhfv.services import Actor, Services
from rlhfv.services.guide import ORACLE_PAIRS, Guided
from rlhfv.services.sign_in import stranger_rights
from rlhfv.studio.chat import ChatTab
from rlhfv.studio.chat_view import FOCUS_QUESTION, alert
from rlhfv.studio.correct import FOCUS_EDITOR, CorrectTab
from rlhfv.studio.events import explain, private, script
from rlhfv.studio.stops import Stops
from rlhfv.studio.view import Node, button, h, progress, view
from rlhfv.studio.visitor import actor

STEPS = ("Ask about a drawn scene", "Correct what is not in it", "Train on it, and ask again")
AT = {"ask": 0, "correct": 1, "train": 2, "training": 2, "again": 2, "done": 3}
SECONDS = 1.5
# The first one makes the pairs that all others then take; nobody who only reads the page waits for them.
WAITS = {"concurrency_id": "guide", "concurrency_limit": 64}


@dataclass(frozen=True)
class GuideStrip:
    """`show(who)` gives what the strip shows to a visitor."""

    strip: gr.HTML
    timer: gr.Timer
    outputs: tuple
    show: Callable[[Actor], dict]


def build(services: Services) -> GuideStrip:
    rights = stranger_rights(services.settings)
    first = services.guide.look(Actor("page", rights=rights)) if "chat" in rights else None
    strip = view(*nodes(first), elem_id="guide")
    timer = gr.Timer(SECONDS, active=False)

    def show(who: Actor) -> dict:
        return put(services.guide.look(who))

    def put(guided: Guided | None) -> dict:
        return {strip: nodes(guided), timer: gr.Timer(active=guided is not None and guided.stage == "training")}

    return GuideStrip(strip, timer, (strip, timer), show)


def connect(services: Services, strip: GuideStrip, tabs: gr.Tabs, chat: ChatTab, correct: CorrectTab) -> None:
    guide, stops = services.guide, Stops()

    def look(request: gr.Request) -> dict:
        return strip.show(actor(request))

    def follow(request: gr.Request) -> dict:
        return strip.show(actor(request))

    def correct_it(event: gr.EventData, request: gr.Request) -> dict:
        return {**correct.open_answer(actor(request), event.ref), tabs: gr.Tabs(selected="correct")}

    def act(event: gr.EventData, request: gr.Request) -> Iterator[dict]:
        who = actor(request)
        try:
            if event.act in ("close", "open"):
                guide.set_closed(who, event.act == "close")
            elif event.act == "train":
                yield from train(who)
            else:
                begin = {"begin": guide.begin, "anew": guide.begin_anew, "again": guide.ask_again}[event.act]
                yield {
                    chat.box: begin(who),
                    **chat.show(who),
                    chat.editing: False,
                    chat.welcome: [],
                    tabs: gr.Tabs(selected="chat"),
                }
        except Exception as error:
            yield {strip.strip: [*nodes(guide.look(who)), *alert(*explain(error))]}
            return
        yield strip.show(who)

    def train(who: Actor) -> Iterator[dict]:
        guided, stop = guide.look(who), stops.add(who.visitor)
        try:
            for made, wanted in guide.train(who, stop):
                text = f"The oracle corrects {wanted} answers of the model: {made} so far."
                yield {strip.strip: nodes(guided, progress(made / wanted, text))}
        except GeneratorExit:
            stop.set()
            raise
        finally:
            stops.end(who.visitor, stop)

    outputs = [*strip.outputs, *chat.outputs, chat.box, chat.editing, chat.welcome, tabs]
    script(private(strip.strip.select, act, None, outputs, **WAITS).then, FOCUS_QUESTION)
    script(private(strip.strip.edit, correct_it, None, [*correct.outputs, tabs]).then, FOCUS_EDITOR, correct.editor)
    private(strip.timer.tick, follow, None, list(strip.outputs))
    for event in (*chat.answered, correct.message.change):
        private(event, look, None, list(strip.outputs))


def nodes(guided: Guided | None, instead: Node | None = None) -> list[Node]:
    """The strip; `instead` stands in the place of what is to be done."""
    if guided is None:
        return []
    if guided.closed:
        return [h("p.guide-closed", button("Show the three steps of a first run", "open", kind="quiet"))]
    close = button("×", "close", kind="quiet", aria_label="Close the guide")
    if guided.stage == "offer":
        return [
            h(
                "section.guide",
                h(
                    "p",
                    h("strong", "New here? "),
                    "Three steps: ask about a drawn scene, correct what is not in it, train on that and ask again.",
                ),
                button("Start", "begin", kind="primary"),
                close,
                aria_label="A first run in three steps",
            )
        ]
    now = AT[guided.stage]
    return [
        h(
            "section.guide",
            h("ol", *(_step(number, title, now) for number, title in enumerate(STEPS))),
            close,
            h("div.guide-now", *([instead] if instead is not None else _now(guided)), role="status"),
            aria_label="A first run in three steps",
        )
    ]


def _step(number: int, title: str, now: int) -> Node:
    state = "over" if number < now else "now" if number == now else "later"
    return h(
        f"li.{state}",
        h("span.guide-number", "✓" if state == "over" else str(number + 1), aria_hidden="true"),
        title,
        aria_current="step" if state == "now" else None,
    )


def _now(guided: Guided) -> list[Node]:
    note = [h("p.warning", guided.note)] if guided.note else []
    return [*note, *TELLS[guided.stage](guided)]


def _ask(guided: Guided) -> list[Node]:
    return [
        h("p", "A scene and a question are in the chat: send the question. Both models answer."),
        button("Put them into the chat again", "begin"),
    ]


def _correct(guided: Guided) -> list[Node]:
    return [
        h(
            "p",
            f"The {guided.side} answer says {quoted(guided.wrong)}. That is not so: the scene was drawn, so what is "
            "in it is known. Open the answer, select the wrong words, delete or replace them, and save.",
        ),
        button("Correct this answer", "correct", guided.answer, "primary", data_event="edit"),
    ]


def _train(guided: Guided) -> list[Node]:
    return [
        h(
            "p",
            "One correction alone would change nothing that can be seen, so this run trains on yours together with "
            f"{ORACLE_PAIRS} that the oracle of the drawn world made. It takes about two minutes.",
        ),
        button("Train now", "train", kind="primary"),
    ]


def _training(guided: Guided) -> list[Node]:
    run = guided.run
    if run.state == "queued":
        place = f"place {run.place} in the queue" if run.place else "it starts in a moment"
        return [progress(None, f"Waits for its turn: {place}.", "Training")]
    if not run.total_steps:
        return [progress(None, "The training is being prepared …", "Training")]
    left = f", about {run.eta:.0f} seconds left" if run.eta else ""
    text = f"Step {run.step} of {run.total_steps}{left}. Its curves are in the tab Train."
    return [progress(run.step / run.total_steps, text, "Training")]


def _again(guided: Guided) -> list[Node]:
    return [
        h(
            "p",
            "Your own adapter is ready. Ask the same about the same scene: left the baseline as it was, right what "
            "was trained just now. Then send the question.",
        ),
        button("Put the question into the chat", "again", kind="primary"),
    ]


def _done(guided: Guided) -> list[Node]:
    after = (
        f"Your model still says {quoted(guided.after)}: one short run does not mend everything."
        if guided.after
        else "Your model says nothing that is not so."
    )
    return [
        h("p", f"Before, the answer said {quoted(guided.before)}, which is not so. {after}"),
        button("Once more", "anew"),
        button("Close", "close"),
    ]


TELLS = {
    "ask": _ask,
    "correct": _correct,
    "train": _train,
    "training": _training,
    "again": _again,
    "done": _done,
}


def quoted(words: tuple[str, ...]) -> str:
    """“a fork”, “a knife” and “a cup”"""
    said = [f"“{each}”" for each in words]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}" if said else "nothing wrong"
