"""The Correct tab: one answer beside its picture, until what is wrong in it is mended."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import gradio as gr

from rlhfv.corrections.edits import Edit
from rlhfv.services import Actor, Services
from rlhfv.services.correcting import FLAGS, SKIP_REASONS, EditorState
from rlhfv.services.queue import Idle, Item
from rlhfv.services.terms import TermsMissing
from rlhfv.studio import terms_view
from rlhfv.studio.chat_view import alert
from rlhfv.studio.events import HINTS, explain, private, script
from rlhfv.studio.pairs_view import short
from rlhfv.studio.span_editor import CorrectionDocument, Hint, SpanEditor
from rlhfv.studio.view import Node, button, empty, h, view
from rlhfv.studio.viewer import show, viewer
from rlhfv.studio.visitor import actor

# Whoever has begun to correct keeps the focus where it is.
FOCUS_EDITOR = """(answer) => {
  window.studio?.beginAnswer(answer?.answer_id);
  setTimeout(() => {
    const editor = document.getElementById('editor');
    const asked = document.querySelector('#annotator textarea, #annotator input');
    if (asked?.getClientRects().length) asked.focus();
    else if (!editor?.contains(document.activeElement)) editor?.querySelector('[contenteditable]')?.focus();
  }, 60);
}"""
# The editor says that it is saving; what came of it stands below it, or in the dialog.
AFTER_SAVE = """() => {
  const status = document.querySelector('#editor [role=status]');
  if (status) status.textContent = '';
  setTimeout(() => document.querySelector('#terms textarea, #terms input')?.focus(), 60);
}"""
BACK_TO_EDITOR = "() => document.querySelector('#editor [contenteditable]')?.focus()"
# Seconds in which the visitor did something on this tab; studio.js counts them.
ACTIVE = "(document, flags, seconds, ...rest) => [document, flags, window.studio?.activeSeconds() ?? 0, ...rest]"


@dataclass(frozen=True)
class CorrectTab:
    """What other tabs need: `message` sends `edit` with a pair's id, `open_answer` puts an answer on the workbench."""

    editor: SpanEditor
    message: gr.HTML
    outputs: tuple
    open_answer: Callable[..., dict]


def build(services: Services) -> CorrectTab:
    corrections, told = services.corrections, services.durable.told

    bar = view(elem_id="correct-bar")
    with gr.Row(elem_classes="workbench correct"):
        with gr.Column(scale=5, min_width=280, elem_classes="side"):
            picture = viewer("correct-picture")
        with gr.Column(scale=8, min_width=300):
            editor = SpanEditor(elem_id="editor")
            message = view(elem_id="correct-message")
            with gr.Column(elem_id="judgement", visible=False) as judgement:
                flags = gr.CheckboxGroup(
                    [(f"{name.capitalize()}: {meaning}", name) for name, meaning in FLAGS.items()],
                    label="Also true of this answer",
                    container=False,
                    elem_id="flags",
                )
                with gr.Row(elem_classes="tight"):
                    nothing = gr.Button("Nothing wrong", size="sm", min_width=120, elem_id="nothing-wrong")
                    reason = gr.Dropdown(
                        [(f"Reason: {why}", why) for why in SKIP_REASONS],
                        value=SKIP_REASONS[0],
                        label="Reason to skip",
                        container=False,
                        min_width=150,
                        elem_id="skip-reason",
                    )
                    skip = gr.Button("Skip", size="sm", min_width=70, elem_id="skip")
                    following = gr.Button("Next answer (Alt+N)", size="sm", min_width=150, elem_id="next-answer")
            terms_again = gr.Button(
                "Name, licence and consent …", size="sm", elem_id="terms-again", elem_classes="link"
            )
    terms = terms_view.build(services)
    waits = gr.State("")  # what is done when the terms are agreed to
    seconds = gr.Number(0, visible=False)

    outputs = (bar, message, picture, editor, judgement, flags)

    def put(
        who: Actor, state: EditorState | None, note: list[Node] | None = None, item: Item | Idle | None = None
    ) -> dict:
        if state is None:
            hint = "Ask the models something in Chat; each answer then waits here for you."
            if isinstance(item, Idle) and item.counts.total:
                hint = f"{item.sentence[0].upper()}{item.sentence[1:]}."
            return {
                bar: [empty("Every answer is judged.", hint)],
                message: note or [],
                picture: None,
                editor: CorrectionDocument(),
                judgement: gr.Column(visible=False),
                flags: [],
            }
        opened = SpanEditor.document(state.original, state.answer_id, state.edits)
        return {
            bar: _bar(
                state,
                item if isinstance(item, Item) else None,
                guideline(who),
                services.hints.why_none(who, state.answer_id),
            ),
            message: note or [],
            picture: show(state.images, state.question),
            # A second look is worth something only when it is not led by the first, or by the machine.
            editor: opened.model_copy(update={"blind": services.queue.is_blind(who, state.answer_id)}),
            judgement: gr.Column(visible=True),
            flags: [],
        }

    def guideline(who: Actor) -> str:
        return services.queue.settings(who).guideline if "annotate" in who.rights else ""

    def put_next(who: Actor, after: str | None = None, note: list[Node] | None = None) -> dict:
        """What comes next: in a team the shared queue, then own answers of the chat; alone the other way round. Behind
        the last one the round begins again with the first that still waits.
        """
        state, item = None, None
        if not services.settings.team:
            state = corrections.open(who, None, after)
        if state is None and "annotate" in who.rights:
            item = services.queue.next_item(who, after)
            if isinstance(item, Item):
                state = corrections.open(who, item.answer_id)
        return put(who, state or corrections.open(who), note, item)

    def open_answer(
        who: Actor, answer_id: str | None, note: list[Node] | None = None, after: str | None = None
    ) -> dict:
        """The named answer, or the next that waits; an id that is not the visitor's shows why it is refused."""
        if not answer_id:
            return put_next(who, after, note)
        try:
            return put(who, corrections.open(who, answer_id), note)
        except Exception as error:
            return put_next(who, None, alert(*explain(error)))

    def keep_draft(document: CorrectionDocument, request: gr.Request) -> None:
        if document.answer_id:
            corrections.save_draft(actor(request), document.answer_id, _edits(document))

    def bring_hints(document: CorrectionDocument, request: gr.Request):
        """Suspects of the answer that was opened; it is on the page already, and nobody waits for them."""
        who = actor(request)
        found = [] if document.blind else services.hints.hints(who, document.answer_id)
        if not found:
            return gr.skip()
        state = corrections.open(who, document.answer_id)
        opened = SpanEditor.document(state.original, state.answer_id, state.edits)
        return opened.model_copy(update={"hints": [Hint(**vars(hint)) for hint in found], "only_hints": True})

    def save(document: CorrectionDocument, marked: list[str], active: float, request: gr.Request) -> dict:
        who = actor(request)
        try:
            saved = corrections.save(
                who,
                document.answer_id,
                document.original,
                _edits(document),
                tuple(marked or ()),
                float(active or 0),
                document.shown(),
            )
        except TermsMissing:
            return {**terms.ask(who), waits: "save"}
        except Exception as error:
            return {message: alert(*explain(error))}
        closed = {**terms.close(), waits: ""}
        try:
            state = corrections.open(who, document.answer_id)
        except Exception as error:
            return {**closed, message: alert(*explain(error))}
        return {
            **closed,
            bar: _bar(state, None, guideline(who)),
            message: _saved(("✓ " if saved.durable else "") + saved.message, saved.pair_id),
        }

    def agree_to(
        document,
        marked,
        active,
        who_says: str,
        under: str,
        agreed: bool,
        then: str,
        read: str = "",
        why: str = "",
        request: gr.Request = None,
    ) -> dict:
        closed = terms.keep(actor(request), who_says, under, agreed, read)
        if then == "save":
            return save(document, marked, active, request)
        if then:
            done = skip_it(document, why, request) if then == "skip" else judge_faithful(document, request)
            return {**closed, waits: "", **done}
        return {**closed, message: _done(told("Noted. It holds for pairs from now on."))}

    def ask_terms(request: gr.Request) -> dict:
        return {**terms.ask(actor(request)), waits: ""}

    def close_terms():
        return gr.Column(visible=False)

    def judge_faithful(document: CorrectionDocument, request: gr.Request) -> dict:
        who = actor(request)
        try:
            corrections.faithful(who, document.answer_id, document.shown())
        except TermsMissing:
            return {**terms.ask(who), waits: "faithful"}
        return open_answer(who, None, _judged(told("Noted: nothing wrong in that answer."), document.answer_id))

    def skip_it(document: CorrectionDocument, why: str, request: gr.Request) -> dict:
        who, why = actor(request), why or SKIP_REASONS[0]
        try:
            corrections.skip(who, document.answer_id, why, document.shown())
        except TermsMissing:
            return {**terms.ask(who), waits: "skip"}
        return open_answer(who, None, _judged(told(f"Skipped: {why}."), document.answer_id))

    def open_next(document: CorrectionDocument, request: gr.Request) -> dict:
        return put_next(actor(request), document.answer_id or None)

    def act(event: gr.EventData, document: CorrectionDocument, request: gr.Request) -> dict:
        who = actor(request)
        if event.act == "next":
            return open_next(document, request)
        if event.act == "reopen":
            services.queue.reopen(who, event.ref)
            return open_answer(who, event.ref, _done(told("It is yours to judge again.")))
        if event.act == "resubmit":
            services.reviewing.resubmit(who, event.ref)
            return put_next(who, document.answer_id, _done("Submitted again as it was; a reviewer looks at it."))
        undone = corrections.undo(who, event.ref)
        note = "Undone: the pair is as it was before."
        if undone.pair is None:
            note = "Undone: the pair is deleted; its history can bring it back."
        return {message: _done(told(note))}

    private(editor.input, keep_draft, editor, None, trigger_mode="always_last")
    private(editor.opened, bring_hints, editor, editor, trigger_mode="always_last", **HINTS)
    asked_to = [terms.column, waits, *terms.fields]
    saved_to = [bar, message, *asked_to]
    saved_by = {"trigger_mode": "always_last", "js": ACTIVE}
    script(private(editor.submit, save, [editor, flags, seconds], saved_to, **saved_by).then, AFTER_SAVE)
    agreed = [editor, flags, seconds, *terms.fields, waits, terms.read, reason]
    script(private(terms.agree.click, agree_to, agreed, [*outputs, *asked_to], js=ACTIVE).then, BACK_TO_EDITOR)
    private(terms_again.click, ask_terms, None, asked_to)
    script(private(terms.cancel.click, close_terms, None, terms.column).then, BACK_TO_EDITOR)
    judged_to = [*outputs, *asked_to]
    script(private(nothing.click, judge_faithful, editor, judged_to).then, FOCUS_EDITOR, editor)
    script(private(skip.click, skip_it, [editor, reason], judged_to).then, FOCUS_EDITOR, editor)
    # Nobody waits for anything here: past the queue the next answer is there sooner.
    script(private(following.click, open_next, editor, outputs, queue=False).then, FOCUS_EDITOR, editor)
    for part in (bar, message):
        script(private(part.select, act, editor, outputs).then, FOCUS_EDITOR, editor)

    return CorrectTab(editor, message, outputs, open_answer)


def _edits(document: CorrectionDocument) -> list[Edit]:
    return [Edit(**correction.model_dump()) for correction in document.corrections]


def _bar(state: EditorState, item: Item | None, guideline: str, unmarked: str = "") -> list[Node]:
    waiting = (
        "Nothing else waits"
        if state.waiting == 0
        else f"{state.waiting} answer{'s' if state.waiting > 1 else ''} to judge"
    )
    earlier = [
        h("div.turn", h("p.question", turn.question, dir="auto"), h("p.answer-text", turn.answer, dir="auto"))
        for turn in state.history
    ]
    return [
        h(
            "div.subject",
            h("p.asked", h("span.label", "Question"), h("strong", state.question, dir="auto")),
            h(
                "p.facts",
                h("span.chip", f"reserved for you until {clock(item.until)}" if item and item.until else waiting),
                h("span.chip", "saved before") if state.saved_pair else None,
                h("span.by", short(state.model), title=state.model),
            ),
            h(
                "p.returned",
                h("span", f"{item.reviewer or 'A reviewer'} sent it back: {item.comment}", dir="auto"),
                button("Submit it again as it is", "resubmit", item.pair_id, "quiet"),
            )
            if item and item.reason == "returned"
            else None,
            h("details", h("summary", f"{len(earlier)} earlier turns of this conversation"), *earlier)
            if earlier
            else None,
            h("details", h("summary", "Guideline"), h("p.guideline", guideline, dir="auto")) if guideline else None,
            h("p.hint", unmarked) if unmarked else None,
        )
    ]


def clock(seconds: float) -> str:
    """The server's local time of day."""
    return datetime.fromtimestamp(seconds).strftime("%H:%M")


def _done(note: str) -> list[Node]:
    return [h("p.done", note, role="status")]


def _judged(note: str, answer_id: str) -> list[Node]:
    return [h("p.done", h("span", note, role="status"), button("Undo", "reopen", answer_id, "quiet"))]


def _saved(note: str, pair_id: str) -> list[Node]:
    return [
        h(
            "p.done",
            h("span", note, role="status"),
            button("Undo", "undo", pair_id, "quiet"),
            button("History", "history", pair_id, "quiet", data_event="edit"),
            button("Next answer", "next", "", "primary", aria_keyshortcuts="Alt+N"),
        )
    ]
