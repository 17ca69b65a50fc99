"""What asking a judge shows: what would be asked, how far it is, and what to do where there is none."""

from typing import TYPE_CHECKING

from rlhfv.services.judged_answers import ToAsk
from rlhfv.studio.chat_view import alert
from rlhfv.studio.view import Node, button, h, progress

if TYPE_CHECKING:
    from rlhfv.studio.judged import Asking

FLAGS = "--judge URL#MODEL --judge-key-env VARIABLE"
ON_ITS_WAY = "You may close this page: it goes on. Each reply is kept as soon as it comes."


def no_judge(title: str, command: str) -> list[Node]:
    """Why a set cannot be counted; `command` judges it in a terminal, "" for whoever has none on this machine."""
    what = h("strong", f"{title} is counted by a judge, and this studio has none. ")
    if not command:
        return [h("div.warning", what, "Ask whoever runs it to have these answers judged.", role="status")]
    return [
        h(
            "div.warning",
            h("p", what, "Start the studio with ", h("code", FLAGS), ", or judge these answers in a terminal:"),
            h("p", h("code", command)),
            h("p.by", "What a judge has said is kept with the answers and counted here too."),
            role="status",
        )
    ]


def ask(wanted: ToAsk, again: bool = False) -> list[Node]:
    """Asks before anything is sent."""
    standing = wanted.standing
    requests = "1 request goes" if standing.waiting == 1 else f"{standing.waiting:,} requests go"
    judged = standing.answers - standing.unjudged
    which = f"{standing.unjudged:,} of the {standing.answers:,}" if judged else f"all {standing.answers:,}"
    kept = f" The other {judged:,} are judged already, and nobody pays for them again." if judged else ""
    return [
        h(
            "div.warning.ask",
            h("p", h("strong", "Ask the judge for the rest?" if again or judged else "Ask the judge?")),
            h(
                "p",
                f"{requests} to {wanted.server}, model {wanted.model}, about {which} answers in the two sets.{kept}",
                dir="auto",
            ),
            h(
                "p.by",
                "Questions, the benchmark's keys and the answers are sent as text, no pictures. That server charges "
                "for it what it charges its customers.",
            ),
            h(
                "p.facts",
                button("Ask the judge", "ask", kind="primary"),
                button("Compare what is judged", "partly") if wanted.some else None,
                button("Cancel", "cancel"),
            ),
            role="alert",
        )
    ]


def under_way(asking: "Asking") -> list[Node]:
    if asking.stop.is_set():
        return [progress(None, "Stopping: what is under way ends first …", "The judge")]
    text = f"{asking.model}: {asking.done:,} of {asking.total:,} replies"
    return [
        progress(asking.done / asking.total if asking.total else None, text, "The judge"),
        h("p.facts", button("Stop", "stop")),
        h("p.hint", ON_ITS_WAY),
    ]


def ended(asking: "Asking", error: tuple[str, str, str] | None) -> list[Node]:
    if error:
        return alert(*error)
    told = f"{asking.done:,} of {asking.total:,} replies are kept."
    if asking.stop.is_set():
        return [h("p.hint", f"Stopped. {told}", role="status")]
    return [h("p.done", f"{asking.model}: {told}", role="status", dir="auto")]


def unanswered(wanted: ToAsk) -> list[Node]:
    """The judge was asked for all, and some have no reply all the same."""
    number = wanted.standing.unjudged
    some = "1 answer has" if number == 1 else f"{number:,} answers have"
    return [
        h(
            "div.warning",
            f"{some} no reply: the notes below the figures say why. Compare asks for them again.",
            role="status",
        )
    ]
