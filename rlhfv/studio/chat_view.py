"""What the chat shows: the two columns, the vote, the pictures and the messages, as nodes of views."""

from rlhfv.corrections.differing import differing
from rlhfv.services.chat import ChatState, ChatTurn, Reply
from rlhfv.studio.marks import marked
from rlhfv.studio.view import Node, button, empty, h

SHOWN_TURNS = 20
FOCUS_TERMS = """() => {
  setTimeout(() => document.querySelector('#chat-terms textarea, #chat-terms input')?.focus(), 60);
}"""
FOCUS_VOTES = "() => document.querySelector('#votes button')?.focus()"
FOCUS_QUESTION = "() => document.querySelector('#question textarea')?.focus()"
JUDGED = {
    "corrected": "Corrected",
    "faithful": "Nothing wrong",
    "preferred": "Compared",
    "tie": "Tie",
    "both_bad": "Both bad",
    "skipped": "Skipped",
}
VOTES = (
    ("left", "← Left is better"),
    ("tie", "Tie"),
    ("both_bad", "Both bad"),
    ("right", "Right is better →"),
)


def column(state: ChatState, side: str) -> list[Node]:
    """The turns of one side, oldest first; only the newest are sent to the page."""
    if not state.turns:
        return [empty("No question yet.", "Choose a picture, then ask both models about it below.")]
    hidden = len(state.turns) - SHOWN_TURNS
    earlier = [h("p.earlier", f"{hidden} earlier turn{'s' if hidden > 1 else ''} not shown.")] if hidden > 0 else []
    turns = [
        _turn(turn, side, streaming=state.streaming and turn is state.turns[-1]) for turn in state.turns[-SHOWN_TURNS:]
    ]
    return [
        h("div.turns", *earlier, *turns, role="log", aria_label=f"{side.title()} answers", tabindex="0", data_stick="")
    ]


def _turn(turn: ChatTurn, side: str, streaming: bool) -> Node:
    reply: Reply = getattr(turn, side)
    pictures = h("span.thumbs", *(thumb(name) for name in turn.images)) if turn.images else None
    return h(
        "div.turn",
        h("div.question", pictures, h("span", turn.question), dir="auto"),
        h("div.answer", *alert(*reply.problem), h("div.actions", h("span.said-by", reply.voice_title)))
        if reply.problem
        else h(
            "div.answer",
            h("p.answer-text", *_text(turn, side, streaming), dir="auto", data_copy=""),
            h("p.answer-note", _note(reply)) if not streaming and _note(reply) else None,
            None if streaming else _actions(reply, side),
            data_copied_from="",
        ),
    )


def _text(turn: ChatTurn, side: str, streaming: bool) -> list[Node]:
    reply: Reply = getattr(turn, side)
    if streaming:
        return (
            [reply.text, h("span.caret", aria_hidden="true")]
            if reply.text
            else [h("span.waiting", "Waiting for the model …")]
        )
    if not reply.text:
        return [h("span.waiting", "(an empty answer)")]
    left, right = differing(turn.left.text, turn.right.text)
    return marked(left if side == "left" else right)


def _note(reply: Reply) -> str:
    """How the answer ends, in the words of who made it where there are any."""
    if reply.note or reply.finished or not reply.answer_id:
        return reply.note
    return "Ends here: it was stopped, or reached the token limit."


def _actions(reply: Reply, side: str) -> Node | None:
    if not reply.answer_id:
        return None
    done = reply.judged in ("corrected", "faithful")
    return h(
        "div.actions",
        button(
            "Correct again" if reply.judged == "corrected" else "✎ Correct this",
            "correct",
            reply.answer_id,
            "" if done else "primary",
            data_event="edit",
            aria_label=f"Correct the {side} answer",
        ),
        None
        if done
        else button("Nothing wrong", "faithful", reply.answer_id, aria_label=f"Nothing is wrong in the {side} answer"),
        button("Copy", "copy", kind="quiet", aria_label=f"Copy the {side} answer"),
        h("span.badge.ok", "✓ ", JUDGED.get(reply.judged, reply.judged)) if reply.judged else None,
        h("span.said-by", reply.voice_title),
    )


def vote_bar(state: ChatState, message: str = "") -> list[Node]:
    """The four votes on the last turn; they wait for two answers."""
    ready = bool(state.turns) and not state.streaming
    ready = ready and all(reply.answer_id for reply in (state.turns[-1].left, state.turns[-1].right))
    same = ready and state.turns[-1].left.text == state.turns[-1].right.text
    note = message or ("Both answers are the same." if same else "")
    return [
        h(
            "div.votes",
            *(button(label, "vote", outcome, disabled=not ready) for outcome, label in VOTES),
            role="group",
            aria_label="Which answer is better?",
        ),
        h("p.status", note, role="status"),
    ]


def picture_strip(state: ChatState, several: bool) -> list[Node]:
    """Which pictures the conversation has, and what becomes of a new one; `several` says whether it may hold two."""
    if not state.turns:
        if len(state.pending_images) > 1:
            return [_row("Asked about together", state.pending_images, drop=True)]
        return []
    nodes = []
    if state.pending_images and several:
        nodes.append(_row("Joins with your next question", state.pending_images, drop=True))
        nodes.append(
            h(
                "p.hint",
                "The conversation goes on with the new picture. ",
                button("New conversation with it", "fresh", kind="quiet"),
            )
        )
    elif state.pending_images:
        nodes.append(_row("Not asked about yet", state.pending_images, drop=True))
        nodes.append(
            h(
                "p.hint.notice",
                "This model looks at one picture a conversation. ",
                button("New conversation with this one", "fresh", kind="primary"),
            )
        )
    if state.images and (state.pending_images or len(state.images) > 1):
        nodes.append(_row("In this conversation", state.images))
    return nodes


def _row(title: str, names: tuple[str, ...], drop: bool = False) -> Node:
    return h(
        "div.strip",
        h("span.strip-title", title),
        *(
            h(
                "span.kept",
                thumb(name),
                button("×", "drop", name, "quiet", aria_label="Leave this picture out") if drop else None,
            )
            for name in names
        ),
    )


def thumb(name: str, alt: str = "") -> Node:
    return h("img.thumb", src=f"images/{name}", alt=alt, loading="lazy")


def suggestions(questions: tuple[str, ...]) -> list[Node]:
    return [
        h(
            "div.chips",
            *(button(question, "suggest", str(number), "chip") for number, question in enumerate(questions)),
            role="group",
            aria_label="Suggested questions",
        )
    ]


def editing_notice() -> list[Node]:
    """Says what sending an edited question does, and the way out."""
    return [
        h(
            "p.hint.notice",
            "You are changing your last question: sent again, it replaces its two answers here. ",
            button("Ask a new question instead", "leave-edit", kind="quiet"),
            role="status",
        )
    ]


def alert(what: str, why: str = "", fix: str = "") -> list[Node]:
    """An error where the visitor looks: what was wrong, why it cannot work, what to do next."""
    rest = " ".join(part for part in (why, fix) if part)
    return [h("div.alert", h("strong", what), h("span", " ", rest) if rest else None, role="alert")]
