"""What the Review tab shows, as nodes of views."""

from rlhfv.corrections.edits import Edit
from rlhfv.corrections.pairs import PreferencePair
from rlhfv.services.reviewing import Comparison, Waiting
from rlhfv.studio.chat_view import thumb
from rlhfv.studio.marks import changed
from rlhfv.studio.pairs_view import STATES, moment
from rlhfv.studio.view import Node, button, empty, h


def closed(team: bool) -> list[Node]:
    """Why there is nothing to review."""
    if team:
        return [empty("Reviews are for reviewers.", "What you submit is looked at here by somebody with that role.")]
    return [
        empty(
            "You work alone here, so what you save counts at once.",
            "Start the studio with --auth users.json and people sign in; then each correction waits here for a second "
            "pair of eyes.",
        )
    ]


def listing(items: tuple[Waiting, ...], chosen: str) -> list[Node]:
    if not items:
        return [empty("Nothing waits for a review.", "What annotators submit appears here, the oldest first.")]
    return [h("ul.pairs", *(_item(item, item.pair.id == chosen) for item in items))]


def _item(item: Waiting, chosen: bool) -> Node:
    pair = item.pair
    pictures = pair.prompt.all_images
    return h(
        "li",
        h(
            "button.pair-item",
            thumb(pictures[-1]) if pictures else h("span.thumb.none"),
            h(
                "span.pair-text",
                h("strong", pair.prompt.question, dir="auto"),
                h(
                    "span.edits",
                    *(h("span.edit", *changed(pair.rejected, edit)) for edit in pair.edits[:3]),
                    dir="auto",
                ),
                h(
                    "span.facts",
                    h("span.kind.other", "two corrections") if item.rivals else None,
                    h("span.kind.other", "your own") if item.own else None,
                    h(
                        "span.by",
                        " · ".join(filter(None, (pair.provenance.annotator, moment(pair.provenance.created)))),
                    ),
                ),
            ),
            type="button",
            act="open",
            ref=pair.id,
            aria_current="true" if chosen else None,
        ),
        data_key=pair.id,
    )


def heading(pair: PreferencePair, state: str) -> list[Node]:
    return [
        h(
            "div.subject",
            h("p.asked", h("span.label", "Question"), h("strong", pair.prompt.question, dir="auto")),
            h(
                "p.facts",
                h("span.chip", STATES.get(state, state)),
                h("span.by", f"by {pair.provenance.annotator or 'somebody who gave no name'}"),
            ),
        )
    ]


def rival_heading(found: Comparison) -> list[Node]:
    name = found.second.provenance.annotator or "somebody else"
    agreement = found.agreement
    return [
        h("h4", f"The second correction of this answer, by {name}", dir="auto"),
        h(
            "p.hint",
            f"The two agree on {100 * agreement.exact_f1:.0f} % of their spans exactly, on "
            f"{100 * agreement.overlapping_f1:.0f} % where they overlap; κ on flagged words {agreement.kappa:.2f}.",
        ),
    ]


def comparison(found: Comparison) -> list[Node]:
    """What both made, what one made alone, where they contradict."""
    text, edits = found.first.rejected, found.edits
    groups = (
        ("In both", edits.shared),
        ("Only in the first", edits.only_first),
        ("Only in the second", edits.only_second),
    )
    rows = [
        node
        for name, some in groups
        if some
        for node in (h("dt", name), h("dd", *(h("span.edit", *changed(text, edit)) for edit in some), dir="auto"))
    ]
    return [h("dl.compared", *rows)] if rows else []


def conflict_choices(found: Comparison) -> list[tuple[str, str]]:
    """Each edit of a contradiction, with its key: the words before and after, and whose it is."""
    choices: dict[str, str] = {}
    for one, other in found.edits.conflicts:
        for edit, name in ((one, "first"), (other, "second")):
            old = found.first.rejected[edit.start : edit.end]
            choices[_key(edit)] = f"{old or 'nothing'} → {edit.replacement or 'nothing'} ({name})"
    return [(label, key) for key, label in choices.items()]


def merged_edits(found: Comparison, holds: list[str]) -> tuple[Edit, ...]:
    """What no one contradicts, and of the contradicting edits those that were ticked. What cannot stand together is
    refused by the store, with the reason.
    """
    parts = found.edits
    disputed = {_key(edit): edit for pair in parts.conflicts for edit in pair}
    ticked = [disputed[key] for key in holds if key in disputed]
    edits = {*parts.shared, *parts.only_first, *parts.only_second, *ticked}
    return tuple(sorted(edits, key=lambda edit: (edit.start, edit.end)))


def _key(edit: Edit) -> str:
    return f"{edit.start}:{edit.end}:{edit.kind}:{edit.replacement}"


def story(pair_id: str, lines) -> list[Node]:
    told = [
        h("li", h("span", line.text, dir="auto"), h("span.by", moment(line.when)) if line.when else None)
        for line in lines
    ]
    return [
        h(
            "div.record",
            h(
                "section",
                h("h4", "What happened"),
                h("ol.history", *told),
                button("Undo the last of it", "undo", pair_id, "quiet"),
            ),
        )
    ]
