"""What the page opens on: a comparison that was recorded before, in the place of the answers that are still to come.

It is part of the page itself, so that it is there before any event has come back. It goes with the visitor's first own
question, or when they close it, and this browser then remembers that.
"""

from datetime import date
from typing import TYPE_CHECKING

import gradio as gr

from rlhfv.corrections.differing import Part, differing
from rlhfv.corrections.recorded import Recorded, Saying, credit
from rlhfv.errors import StudioError
from rlhfv.services import Actor, Services
from rlhfv.services.recorded import Shown
from rlhfv.studio.chat_view import FOCUS_QUESTION, alert
from rlhfv.studio.events import private, script
from rlhfv.studio.marks import marked
from rlhfv.studio.view import Node, button, h, view
from rlhfv.studio.visitor import actor

if TYPE_CHECKING:
    from rlhfv.studio.chat import ChatTab

SEEN = """() => {
  document.body.dataset.welcomed = "true";
  try { localStorage.setItem("rlhfv.welcomed", "1"); } catch {}
}"""
SEEN_BEFORE = """() => {
  try { if (localStorage.getItem("rlhfv.welcomed")) document.body.dataset.welcomed = "true"; } catch {}
}"""


def build(services: Services) -> gr.HTML:
    """The component, with the first comparison in it. Raises `InvalidData` for a `--recorded` that cannot be shown."""
    shown = services.recorded.shown(Actor("page", rights=frozenset({"chat"})))
    return view(*panel(shown[0], len(shown)), elem_id="welcome")


def connect(services: Services, demo: gr.Blocks, chat: "ChatTab") -> None:
    recorded, welcome = services.recorded, chat.welcome

    def act(event: gr.EventData, request: gr.Request) -> dict:
        who, shown = actor(request), recorded.shown(actor(request))
        number = int(event.ref) if event.ref.isascii() and event.ref.isdecimal() else 0
        if event.act == "next":
            return {welcome: panel(shown[(number + 1) % len(shown)], len(shown))}
        try:
            question = services.guide.begin(who) if event.act == "try" else recorded.put_into_chat(who, number)
        except StudioError as error:
            return {chat.message: alert(error.what, error.why, error.fix)}
        return {**chat.show(who), chat.box: question, chat.editing: False, welcome: []}

    asked = private(welcome.edit, act, None, [*chat.outputs, chat.box, chat.editing, welcome])
    script(asked.then, FOCUS_QUESTION)
    script(welcome.select, SEEN)
    script(demo.load, SEEN_BEFORE)
    for event in chat.asks:
        script(event, SEEN)


def panel(one: Shown, of: int) -> list[Node]:
    """One comparison as nodes; `of` how many there are."""
    recorded = one.recorded
    left, right = differing(recorded.left.text, recorded.right.text)
    return [
        h(
            "section.recorded",
            h(
                "div.recorded-top",
                h("span.badge.live", "Recorded"),
                h("span.recorded-label", label(recorded), title=names(recorded)),
                button("×", "close", kind="quiet", aria_label="Close the recorded comparison"),
            ),
            h(
                "div.recorded-body",
                h("img.recorded-picture", src=f"images/{recorded.picture}", alt="The picture that was asked about"),
                h("p.question", recorded.question, dir="auto"),
                _side(recorded.left, left),
                _side(recorded.right, right),
            ),
            h(
                "div.recorded-foot",
                button("Ask this yourself", "ask", str(one.number), "primary", data_event="edit")
                if one.can_ask
                else button("Try it on a drawn scene", "try", "", "primary", data_event="edit"),
                button("Another one", "next", str(one.number), data_event="edit") if of > 1 else None,
                h("span.by", credit(recorded.source)),
            ),
            role="region",
            aria_label="A recorded comparison",
        )
    ]


def label(recorded: Recorded) -> str:
    """When and with what it was recorded."""
    day = date.fromisoformat(recorded.day)
    on = f"{day.day} {day:%B %Y}"
    if recorded.by_people:
        return f"taken on {on} from {recorded.source.name}. Words that people changed are marked."
    left, right = recorded.left.voice, recorded.right.voice
    base, colon, _ = left.partition(": ")
    with_ = base if colon and right.startswith(f"{base}: ") else f"{left} and {right}"
    about = ", about a drawn scene" if recorded.scene else ""
    return f"on {on} with {with_}{about}. Words that differ are marked."


def names(recorded: Recorded) -> str:
    """Whose answers they are, and how they were decoded."""
    models = " | ".join(side.model for side in (recorded.left, recorded.right) if side.model)
    sampling = recorded.sampling
    if sampling is None:
        return models
    how = "greedy" if sampling.temperature == 0 else f"temperature {sampling.temperature:g}, seed {sampling.seed}"
    return f"{models} ({how})"


def _side(said: Saying, parts: tuple[Part, ...]) -> Node:
    return h(
        "div.recorded-side",
        h("h3", said.voice, title=said.model or None),
        h("p.answer-text", *marked(parts), dir="auto"),
    )
