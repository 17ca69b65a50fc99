"""The history of a pair in sentences, as a person would tell it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from rlhfv.corrections.pairs import PreferencePair
from rlhfv.corrections.reviews import WITH_REVISION, Review
from rlhfv.corrections.revisions import Revision

_UNDONE = {
    "saved": "the last change",
    "restored": "the last change",
    "deleted": "the deletion",
    "merged": "the merge",
    "returned": "the return",
    "resubmitted": "the second submission",
    "accepted": "the acceptance",
    "withdrawn": "the withdrawal of the acceptance",
    "chosen": "the choice",
    "superseded": "the choice",
}


@dataclass(frozen=True)
class StoryLine:
    """One thing that happened. `when` is ISO 8601 in UTC, empty where only the order is known; `text` says who did
    what ("Ann corrected 3 spans").
    """

    when: str
    who: str
    text: str


def tell_story(
    history: Iterable[Revision],
    reviews: Iterable[Review],
    pushes: Iterable[tuple[str, int]] = (),
    others: dict[str, tuple[str, str]] | None = None,
) -> tuple[StoryLine, ...]:
    """The story of one pair, oldest first.

    Args:
        history, reviews: all revisions of the pair and all actions on it, in order.
        pushes: (repository, revision that stands there; 0: taken out).
        others: deed → whose correction of the same answer it was about too, and the action on that one.
    """
    history, reviews, others = list(history), list(reviews), others or {}
    actions = {review.deed: review.action for review in reviews}
    told_by_undo = {review.revision for review in reviews if review.undoes and actions[review.undoes] in WITH_REVISION}
    merges = {review.revision: others.get(review.deed, ("", ""))[0] for review in reviews if review.action == "merged"}
    # In the order of revisions, not of times: two things may happen within a millisecond.
    lines: list[tuple[float, int, StoryLine]] = []

    def add(number: int, place: int, when: str, who: str, text: str) -> None:
        lines.append((number, place, StoryLine(when, who, f"{who or 'Somebody'} {text}")))

    before: PreferencePair | None = None
    for revision in history:
        if revision.number not in told_by_undo:
            add(revision.number, 1, revision.created, revision.annotator, _revision_text(revision, before, merges))
        before = revision.pair
    for review in reviews:
        if review.undoes:
            add(review.revision, 2, review.created, review.name, f"undid {_UNDONE[actions[review.undoes]]}")
        elif review.action not in WITH_REVISION:
            add(
                review.revision,
                2,
                review.created,
                review.name,
                _review_text(review, *others.get(review.deed, ("", ""))),
            )
    for repo, number in pushes:
        # When it was pushed is not kept: before the next revision at the latest.
        text = f"pushed to {repo} as revision {number}" if number else f"taken out of {repo}"
        lines.append((number or float("inf"), 3, StoryLine("", "", text)))
    return tuple(line for _, _, line in sorted(lines, key=lambda line: line[:2]))


def _revision_text(revision: Revision, before: PreferencePair | None, merges: dict[int, str]) -> str:
    pair = revision.pair
    if pair is None:
        return "deleted it"
    if revision.action == "merged":
        return f"merged it with {_whose(merges.get(revision.number, ''))} correction"
    if revision.action == "restored":
        return "went back to an earlier revision" if before else "brought it back"
    if pair.outcome == "preferred":
        return "preferred one of two answers"
    if before is None:
        return f"corrected {_count(len(pair.edits), 'span')}"
    old, new = Counter(before.edits), Counter(pair.edits)
    changed = max((new - old).total(), (old - new).total())
    return f"changed {_count(changed, 'correction')}" if changed else "saved it again unchanged"


def _review_text(review: Review, other: str, other_action: str) -> str:
    said = f": '{review.comment}'" if review.comment else ""
    if review.action == "chosen":
        return f"chose it over {_whose(other)} correction"
    if review.action == "superseded":
        return f"{'merged it into' if other_action == 'merged' else 'put it behind'} {_whose(other)} correction"
    return {
        "returned": f"returned it{said}",
        "resubmitted": f"submitted it again{said}",
        "accepted": f"accepted it{said}",
        "withdrawn": f"took the acceptance back{said}",
    }[review.action]


def _whose(name: str) -> str:
    return f"{name}'s" if name else "another"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
