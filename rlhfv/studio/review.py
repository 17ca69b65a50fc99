"""The Review tab: what annotators submitted, until it is accepted, sent back, or made one with somebody else's."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from rlhfv.services import Actor, Services
from rlhfv.studio import review_view as shown
from rlhfv.studio.events import private
from rlhfv.studio.span_editor import CorrectionDocument, SpanEditor
from rlhfv.studio.view import Node, button, h, view
from rlhfv.studio.view import pager as turn_pages
from rlhfv.studio.viewer import show as show_picture
from rlhfv.studio.viewer import viewer
from rlhfv.studio.visitor import actor

PAGE = 20
CHANGES = {"concurrency_id": "review", "concurrency_limit": 4}


@dataclass(frozen=True)
class ReviewTab:
    """`show(who, pair_id)` fills the tab; `chosen` is the id of the pair that is open."""

    outputs: tuple
    chosen: gr.State
    show: Callable[..., dict]


def build(services: Services) -> ReviewTab:
    reviewing = services.reviewing

    status = view(elem_id="review-status")
    with gr.Row(elem_classes="workbench", visible=False, elem_id="review-desk") as desk:
        with gr.Column(scale=4, min_width=270, elem_classes="list"):
            listing = view(elem_id="review-list", label="Submitted corrections")
            pager = view(elem_id="review-pager")
        with gr.Column(scale=9, min_width=300, visible=False, elem_id="review-pair") as detail:
            heading = view(elem_id="review-heading")
            with gr.Row(elem_classes="pair-body"):
                with gr.Column(scale=4, min_width=220):
                    picture = viewer("review-picture")
                with gr.Column(scale=7, min_width=280):
                    editor = SpanEditor(elem_id="review-editor")
                    with gr.Column(visible=False, elem_id="review-rival") as rival_side:
                        rival_heading = view(elem_id="review-rival-heading")
                        rival = SpanEditor(elem_id="review-rival-editor")
                        compared = view(elem_id="review-compared")
                        holding = gr.CheckboxGroup(
                            [], label="Where the two contradict, what holds?", visible=False, elem_id="review-holding"
                        )
                        with gr.Row(elem_classes="tight"):
                            first = gr.Button("Accept the first", size="sm", elem_id="review-first")
                            second = gr.Button("Accept the second", size="sm", elem_id="review-second")
                            merge = gr.Button("Merge both", size="sm", variant="primary", elem_id="review-merge")
                    with gr.Row(elem_classes="tight", visible=False, elem_id="review-acts") as acts:
                        accept = gr.Button("Accept", size="sm", variant="primary", elem_id="review-accept")
                        comment = gr.Textbox(
                            label="Comment for its author",
                            placeholder="What should be changed, and why",
                            container=False,
                            max_length=1000,
                            scale=3,
                            elem_id="review-comment",
                        )
                        send_back = gr.Button("Send back", size="sm", elem_id="review-return")
            story = view(elem_id="review-story")
    chosen = gr.State("")
    other = gr.State("")
    revision = gr.State(0)
    offset = gr.State(0)

    outputs = (
        *(status, desk, listing, pager, detail, heading, picture, editor, rival_side, rival_heading, rival, compared),
        *(holding, acts, comment, story, chosen, other, revision, offset),
    )

    def show_tab(who: Actor, pair_id: str = "", start: int = 0, note: list[Node] | None = None) -> dict:
        """The list, and one pair opened: the given one if it is still there, else the first that waits."""
        if not services.settings.team or "review" not in who.rights:
            return {status: shown.closed(services.settings.team), desk: gr.Row(visible=False), chosen: ""}
        page = reviewing.waiting(who, start, PAGE)
        if start and not page.items:
            start = max(0, (page.total - 1) // PAGE * PAGE)
            page = reviewing.waiting(who, start, PAGE)
        pair_id = pair_id or (page.items[0].pair.id if page.items else "")
        return {
            status: note or [],
            desk: gr.Row(visible=True),
            listing: shown.listing(page.items, pair_id),
            pager: turn_pages(start, PAGE, page.total, "pairs"),
            offset: start,
            **open_pair(who, pair_id),
        }

    def open_pair(who: Actor, pair_id: str) -> dict:
        if not pair_id:
            return {detail: gr.Column(visible=False), chosen: "", story: []}
        pair, state = services.corrections.pair(who, pair_id), reviewing.state(who, pair_id)
        rivals = services.store.rivals(pair_id)
        mine = {
            detail: gr.Column(visible=True),
            heading: shown.heading(pair, state),
            picture: show_picture(pair.prompt.all_images, pair.prompt.question),
            editor: SpanEditor.document(pair.rejected, "", pair.edits, readonly=True),
            acts: gr.Row(visible=state == "submitted" and not rivals),
            comment: "",
            story: shown.story(pair_id, reviewing.story(who, pair_id)),
            chosen: pair_id,
            revision: pair.revision,
        }
        return mine | open_rival(who, pair_id, rivals[0] if rivals else "")

    def open_rival(who: Actor, pair_id: str, rival_id: str) -> dict:
        if not rival_id:
            return {rival_side: gr.Column(visible=False), rival: CorrectionDocument(readonly=True), other: ""}
        found = reviewing.compare(who, pair_id, rival_id)
        choices = shown.conflict_choices(found)
        return {
            rival_side: gr.Column(visible=True),
            rival_heading: shown.rival_heading(found),
            rival: SpanEditor.document(found.second.rejected, "", found.second.edits, readonly=True),
            compared: shown.comparison(found),
            holding: gr.CheckboxGroup(choices, value=[], visible=bool(choices)),
            other: rival_id,
        }

    def done(who: Actor, text: str, pair_id: str, start: int) -> dict:
        """The next pair that waits, and a way back."""
        text = services.durable.told(text)
        note = h("p.done", h("span", text, role="status"), button("Undo", "undo", pair_id, "quiet"))
        return show_tab(who, "", start, [note])

    def select(event: gr.EventData, request: gr.Request, start: int):
        return show_tab(actor(request), event.ref, start)

    def turn(event: gr.EventData, request: gr.Request):
        return show_tab(actor(request), "", int(event.ref))

    def accept_pair(request: gr.Request, pair_id: str, seen: int, start: int):
        who = actor(request)
        reviewing.accept(who, pair_id, seen)
        return done(who, "Accepted.", pair_id, start)

    def send_pair_back(request: gr.Request, pair_id: str, seen: int, said: str, start: int):
        who = actor(request)
        reviewing.send_back(who, pair_id, said.strip(), seen)
        return done(who, "Sent back with your comment.", pair_id, start)

    def choose_first(request: gr.Request, pair_id: str, rival_id: str, start: int):
        who = actor(request)
        reviewing.choose(who, pair_id, rival_id)
        return done(who, "The first is accepted, the second set aside.", pair_id, start)

    def choose_second(request: gr.Request, pair_id: str, rival_id: str, start: int):
        who = actor(request)
        reviewing.choose(who, rival_id, pair_id)
        return done(who, "The second is accepted, the first set aside.", rival_id, start)

    def merge_both(request: gr.Request, pair_id: str, rival_id: str, holds: list[str], start: int):
        who = actor(request)
        edits = shown.merged_edits(reviewing.compare(who, pair_id, rival_id), holds)
        reviewing.merge(who, pair_id, rival_id, edits)
        return done(who, "Merged and accepted.", pair_id, start)

    def undo(event: gr.EventData, request: gr.Request, start: int):
        who = actor(request)
        if event.act != "undo":
            return gr.skip()
        reviewing.undo(who, event.ref)
        note = services.durable.told("Undone: the pair is as it was before.")
        return show_tab(who, event.ref, start, [h("p.done", note, role="status")])

    private(listing.select, select, offset, outputs, trigger_mode="multiple")
    private(pager.select, turn, None, outputs)
    private(accept.click, accept_pair, [chosen, revision, offset], outputs, **CHANGES)
    private(send_back.click, send_pair_back, [chosen, revision, comment, offset], outputs, **CHANGES)
    private(first.click, choose_first, [chosen, other, offset], outputs, **CHANGES)
    private(second.click, choose_second, [chosen, other, offset], outputs, **CHANGES)
    private(merge.click, merge_both, [chosen, other, holding, offset], outputs, **CHANGES)
    for part in (status, story):
        private(part.select, undo, offset, outputs, **CHANGES)

    return ReviewTab(outputs, chosen, show_tab)
