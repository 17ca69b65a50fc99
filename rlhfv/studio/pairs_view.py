"""What the list of pairs, one pair, its history and an import show, as nodes of views."""

import re
from collections import Counter

from rlhfv.corrections.agreements import Agreement
from rlhfv.corrections.differing import differing
from rlhfv.corrections.erasing import Found
from rlhfv.corrections.pairs import PreferencePair
from rlhfv.corrections.published import NOT_TO_BE_PUBLISHED
from rlhfv.services.erasing import Erased
from rlhfv.studio.chat_view import thumb
from rlhfv.studio.marks import changed, marked
from rlhfv.studio.view import Node, button, empty, h

SHOWN_EDITS = 3
ACTIONS = {"saved": "saved", "deleted": "deleted", "restored": "restored"}


def listing(pairs, chosen: str, filtered: bool) -> list[Node]:
    if not pairs:
        if filtered:
            return [empty("No pair matches.", "Take a word out of the search, or set a filter back to any.")]
        return [
            empty(
                "No pairs yet.",
                "Ask a question in Chat and correct what is wrong in an answer: each saved correction is a pair.",
            )
        ]
    return [h("ul.pairs", *(_item(pair, pair.id == chosen) for pair in pairs))]


def _item(pair: PreferencePair, chosen: bool) -> Node:
    pictures = pair.prompt.all_images
    kinds = Counter(edit.kind for edit in pair.edits)
    return h(
        "li",
        h(
            "button.pair-item",
            thumb(pictures[-1]) if pictures else h("span.thumb.none"),
            h(
                "span.pair-text",
                h("strong", pair.prompt.question, dir="auto"),
                h("span.edits", *_excerpt(pair), dir="auto"),
                h(
                    "span.facts",
                    *(
                        h(f"span.kind.{kind}", kind if count == 1 else f"{kind} ×{count}")
                        for kind, count in kinds.items()
                    ),
                    None if pair.edits else h("span.kind.other", pair.outcome),
                    h("span.by", " · ".join(filter(None, (pair.provenance.annotator, day(pair.provenance.created))))),
                ),
            ),
            type="button",
            act="open",
            ref=pair.id,
            aria_current="true" if chosen else None,
        ),
        data_key=pair.id,
    )


def _excerpt(pair: PreferencePair) -> list[Node]:
    if not pair.edits:
        return [h("span", "preferred: ", pair.chosen[:120])]
    nodes: list[Node] = []
    for edit in pair.edits[:SHOWN_EDITS]:
        nodes += [h("span.edit", *changed(pair.rejected, edit))]
    hidden = len(pair.edits) - SHOWN_EDITS
    return nodes + ([h("span.more", f"+{hidden}")] if hidden > 0 else [])


STATES = {
    "submitted": "waits for a review",
    "accepted": "accepted",
    "returned": "sent back",
    "superseded": "set aside",
    "gold": "gold item",
}


def heading(pair: PreferencePair, deleted: bool, state: str, may_review: bool, may_erase: bool) -> list[Node]:
    """`state` is left empty where every pair counts as soon as it is saved."""
    acts = (
        [button("Bring it back", "undelete", pair.id, "primary")]
        if deleted
        else [button("Delete", "delete", pair.id, "danger")]
    )
    if may_review:
        acts.insert(0, button("Open in Review", "review", pair.id, data_event="edit"))
    if may_erase:
        acts.append(button("Erase for good …", "ask-erase", pair.id, "quiet"))
    return [
        h(
            "div.subject",
            h("p.asked", h("span.label", "Question"), h("strong", pair.prompt.question, dir="auto")),
            h(
                "p.facts",
                h("span.badge.bad", "Deleted") if deleted else None,
                h("span.chip", pair.outcome),
                h("span.chip", STATES.get(state, state)) if state else None,
                *acts,
            ),
        )
    ]


def ask_to_erase(pair_id: str, found: Found) -> list[Node]:
    """What would go, and what stays, before it is done."""
    gone = len(found.images) - len(found.shared)
    counts = (
        (len(found.pairs), "pair"),
        (len(found.answers), "answer"),
        (len(found.tasks), "task"),
        (gone, "picture"),
    )
    parts = [f"{number:,} {name}{'s' if number != 1 else ''}" for number, name in counts if number]
    kept = f" {len(found.shared):,} picture(s) stay: something else is about them." if found.shared else ""
    return [
        h(
            "div.warning.ask",
            h(
                "p",
                h("strong", f"{', '.join(parts)} would go for good"),
                ": out of the store with its history, drafts, conversations, runs and data sets on the Hub. "
                f"Nothing brings them back.{kept}",
            ),
            h(
                "p.facts",
                button("Erase for good", "erase", pair_id, "danger", data_event="edit"),
                button("Keep them", "keep", pair_id),
            ),
            role="alert",
        )
    ]


def erased(done: Erased) -> list[Node]:
    """What was erased, what waits, and what nobody here can reach."""
    places = f", and in {', '.join(done.repos)}" if done.repos else ""
    reasons = [h("li", f"Still in {repo}: {reason}") for repo, reason in done.waiting]
    reasons += [h("li", sentence) for sentence in done.unreached]
    return [
        h("p.done", f"Erased here{places}.", role="status"),
        h("div.warning", h("strong", "Out of reach from here"), h("ul.reasons", *reasons)),
    ]


def preferred(pair: PreferencePair) -> list[Node]:
    """Two answers of a vote, with the words that differ."""
    better, worse = differing(pair.chosen, pair.rejected)
    return [
        h("div.compare", h("span.label", "Preferred"), h("p.answer-text", *marked(better), dir="auto")),
        h("div.compare", h("span.label", "Other"), h("p.answer-text", *marked(worse), dir="auto")),
    ]


def record(pair: PreferencePair, history, agreement: Agreement | None = None) -> list[Node]:
    origin = pair.provenance
    sampling = origin.sampling
    decoding = (
        "greedy"
        if sampling.temperature == 0
        else f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, seed {sampling.seed}"
    )
    facts = {
        "Annotator": origin.annotator or "not named",
        "Made": moment(origin.created),
        "Model": short(str(origin.model)),
        "Decoding": decoding,
        "Licence": _licence(origin.licence, origin.consent),
        "Terms": f"version {agreement.version}, agreed {moment(agreement.agreed)}" if agreement else "",
        "Corrections": "as made by the annotator" if origin.edits == "made" else "inferred by a word diff",
        "Picture": origin.source,
    }
    rows = [node for name, value in facts.items() if value for node in (h("dt", name), h("dd", value, dir="auto"))]
    newest = history[-1].number
    revisions = [
        h(
            "li",
            h("span", f"{revision.number}. {ACTIONS.get(revision.action, revision.action)}"),
            h("span.by", " · ".join(filter(None, (revision.annotator, moment(revision.created))))),
            None
            if revision.number == newest or revision.action == "deleted"
            else button(
                "Restore",
                "restore",
                f"{pair.id}:{revision.number}",
                "quiet",
                aria_label=f"Restore revision {revision.number}",
            ),
        )
        for revision in reversed(history)
    ]
    return [
        h(
            "div.record",
            h("section", h("h4", "Where it comes from"), h("dl", *rows)),
            h("section", h("h4", "History"), h("ol.history", *revisions)),
        )
    ]


def _licence(licence: str, consent: bool) -> str:
    if licence == NOT_TO_BE_PUBLISHED:
        return licence
    return f"{licence or 'not said'}, {'may be published' if consent else 'not to publish'}"


def import_report(report) -> list[Node]:
    kept, bad = report.pairs, report.problems
    told = f" Read as {report.format}, told by {report.told_by}." if report.told_by else ""
    done = h(
        "p.done",
        f"{kept:,} pair{'s' if kept != 1 else ''} taken in"
        + (f", {len(bad):,} row{'s' if len(bad) != 1 else ''} left out." if bad else ".")
        + told,
        role="status",
    )
    return [done, problem_table(bad)] if bad else [done]


def problem_table(problems) -> Node:
    """The rows that were not taken, and how to mend them; the first fifty."""
    several = any(problem.file for problem in problems)
    rows = [
        h(
            "tr",
            h("td", f"{problem.row:,}" if problem.row else "all"),
            h("td", problem.file) if several else None,
            *(h("td", part) for part in (problem.what, problem.why, problem.fix)),
        )
        for problem in problems[:50]
    ]
    names = ("Row", *(["File"] if several else []), "What is wrong", "Why it cannot be taken", "How to mend it")
    head = h("tr", *(h("th", name, scope="col") for name in names))
    more = h("p", f"… and {len(problems) - 50:,} more.") if len(problems) > 50 else None
    return h("div.scroll", h("table.plain", h("thead", head), h("tbody", *rows)), more)


def losses(sentences: list[str]) -> list[Node]:
    """What an export would leave behind, before it is made."""
    if not sentences:
        return [h("p.hint", "This format carries everything.")]
    return [
        h(
            "div.warning",
            h("strong", "What this format does not carry"),
            h("ul.reasons", *(h("li", sentence) for sentence in sentences)),
            role="status",
        )
    ]


def short(model: str) -> str:
    """A model's identity with its hashes cut to twelve characters, which still name it."""
    return re.sub(r"@([0-9a-f]{12})[0-9a-f]{4,}", r"@\1", model)


def day(created: str) -> str:
    return created[:10]


def moment(created: str) -> str:
    """An ISO time as people read it: "2026-03-01 12:30 UTC"."""
    return f"{created[:10]} {created[11:16]} UTC" if len(created) >= 16 else created
