"""Two sets of answers to one benchmark, item by item: what changed, how sure it is, and what it cost.

Everything is joined by item id, never by order. Figures are those of the items that both sets answer.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlhfv.corrections.differing import differing
from rlhfv.errors import InvalidData
from rlhfv.evaluation.bootstrap import DRAWS, LEVEL, Figure, Resamples
from rlhfv.evaluation.score import Fault, Item, Measure, Score, share

MENDED, BROKEN, STILL_WRONG, RIGHT = "mended", "broken", "still wrong", "right"
FEWEST = 6
"""Items below which nothing is clear: 2 / 2^6 = 0.03 is the first p below 0.05 where all items change alike."""
OUTCOMES = (BROKEN, MENDED, STILL_WRONG, RIGHT)
"""Of an item: wrong before and right after, the reverse, wrong in both, wrong in neither."""
WORDS = "words"
_COUNTED_WORDS = "words of the answers", "answers"


@dataclass(frozen=True)
class Change:
    """One measure of both sets and its difference, after minus before, each with its 95 % interval. `p` is how often
    chance alone makes a difference as large, see `Resamples.chance`."""

    measure: Measure
    before: Figure
    after: Figure
    difference: Figure
    p: float

    @property
    def clear(self) -> bool:
        """Whether the interval of the difference leaves out 0, and the test agrees: of few items, or of items that all
        change alike, the interval alone is too narrow."""
        return self.beside_zero and self.p <= 1 - LEVEL

    @property
    def beside_zero(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        return self.difference.value is not None and (self.difference.low > 0 or self.difference.high < 0)

    @property
    def better(self) -> bool | None:
        """Whether the value after is the better one; None where it is equal, not defined or neither is better."""
        if not self.measure.better or not self.difference.value:
            return None
        return (self.difference.value > 0) == (self.measure.better == "higher")


@dataclass(frozen=True)
class Flips:
    """Items that went from wrong to right and from right to wrong, and McNemar's exact p-value of them."""

    mended: int
    broken: int
    p: float


@dataclass(frozen=True)
class ComparedItem:
    """One item with both answers. `faults` are the places that the benchmark found wrong in each."""

    item: Item
    outcome: str
    answers: tuple[str, str]
    faults: tuple[tuple[Fault, ...], tuple[Fault, ...]]


@dataclass(frozen=True)
class Piece:
    """A stretch of an answer: whether only this side has it, and the word for what is wrong with it, or ""."""

    text: str
    differs: bool
    fault: str


@dataclass(frozen=True)
class Comparison:
    """`gains` are the measures that are to become better, `prices` those that it must not be paid with (what is to
    stay high, and length); `general` are changes of other benchmarks that were given along, by their title. `rows` are
    in the benchmark's order."""

    benchmark: str
    variant: str
    gains: tuple[Change, ...]
    prices: tuple[Change, ...]
    flips: Flips
    rows: tuple[ComparedItem, ...]
    notes: tuple[str, ...]
    general: tuple[tuple[str, Change], ...] = ()

    @property
    def changes(self) -> tuple[Change, ...]:
        return (*self.gains, *self.prices)

    @property
    def outcomes(self) -> dict[str, int]:
        """How many items of each outcome there are."""
        counted = Counter(row.outcome for row in self.rows)
        return {outcome: counted[outcome] for outcome in OUTCOMES}

    def beside(self, others: Sequence["Comparison"]) -> "Comparison":
        """With the first gain of comparisons of the same two voices on other benchmarks: a general score."""
        return replace(self, general=tuple((other.benchmark, other.gains[0]) for other in others if other.gains))


def compare(
    before: Score,
    after: Score,
    answers_before: Mapping[str, str],
    answers_after: Mapping[str, str],
    items: Sequence[Item],
    seed: int = 0,
    draws: int = DRAWS,
) -> Comparison:
    """Joins two scores of one benchmark in one variant by item id.

    Raises:
        InvalidData: two benchmarks, two variants, an item scored twice, or none that both scores have.
    """
    _refuse_unlike(before, after)
    places = [places_of(score) for score in (before, after)]
    known = {item.id: item for item in items}
    order = [name for name in known if name in places[0] and name in places[1]]
    order += [name for name in before.ids if name in places[1] and name not in known]
    if not order:
        raise InvalidData(
            "The two sets of answers have no item in common.",
            f"Answers are joined by item id; one begins with {_first(before)}, the other with {_first(after)}.",
            "Compare answers to the same questions.",
        )
    answers = [[said.get(name, "") for name in order] for said in (answers_before, answers_after)]
    picked = [np.array([place[name] for name in order]) for place in places]
    scores = [select(score, rows) for score, rows in zip((before, after), picked, strict=True)]
    measures = before.measures
    if not any(measure.unit == "words" for measure in measures):
        measures = (*measures, WORDS_PER_ANSWER)
    counts = [_with_words(score, said) for score, said in zip(scores, answers, strict=True)]
    resamples = Resamples(*counts, clusters=scores[0].clusters, seed=seed, draws=draws)
    changes = [
        Change(
            measure,
            resamples.measure(measure, 0),
            resamples.measure(measure, 1),
            resamples.difference(measure),
            resamples.chance(measure),
        )
        for measure in measures
    ]
    wrong = [score.wrong.astype(bool) for score in scores]
    names = {(True, False): MENDED, (False, True): BROKEN, (True, True): STILL_WRONG, (False, False): RIGHT}
    rows = tuple(
        ComparedItem(
            known.get(name) or Item(name, ""),
            names[bool(wrong[0][row]), bool(wrong[1][row])],
            (answers[0][row], answers[1][row]),
            (scores[0].faults[row], scores[1].faults[row]),
        )
        for row, name in enumerate(order)
    )
    aims = "lower" if any(change.measure.better == "lower" for change in changes) else "higher"
    counted = Counter(row.outcome for row in rows)
    return Comparison(
        before.benchmark,
        before.variant,
        tuple(change for change in changes if change.measure.better == aims),
        tuple(change for change in changes if change.measure.better != aims),
        Flips(counted[MENDED], counted[BROKEN], mcnemar(counted[MENDED], counted[BROKEN])),
        rows,
        tuple(_notes(before, after, len(order))),
    )


def mcnemar(b: int, c: int) -> float:
    """The exact two-sided p-value of b against c changed items: how often a fair coin, thrown b + c times, falls at
    least as unevenly. 1 where nothing changed.

    Q. McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12, 1947,
    with the binomial distribution itself in place of its approximation.
    """
    thrown, fewer = b + c, min(b, c)
    term = tail = 1  # binomial coefficients of thrown over 0, 1, … as whole numbers: nothing is rounded until the end
    for number in range(1, fewer + 1):
        term = term * (thrown - number + 1) // number
        tail += term
    return min(1.0, 2 * tail / 2**thrown)


def cut(texts: tuple[str, str], faults: tuple[Sequence[Fault], Sequence[Fault]]) -> tuple[list[Piece], list[Piece]]:
    """Both answers cut where they differ and where a fault begins or ends; joined, the pieces are the answers."""
    return tuple(_cut(text, parts, found) for text, parts, found in zip(texts, differing(*texts), faults, strict=True))


def _cut(text: str, parts, faults: Sequence[Fault]) -> list[Piece]:
    kinds, apart, position = [""] * len(text), [False] * len(text), 0
    for part, differs in parts:
        if differs:
            apart[position : position + len(part)] = [True] * len(part)
        position += len(part)
    for fault in faults:
        start, end = max(0, fault.start), min(len(text), fault.end)
        kinds[start:end] = [fault.kind] * max(0, end - start)
    pieces, begun = [], 0
    for index in range(1, len(text) + 1):
        if index == len(text) or (kinds[index], apart[index]) != (kinds[begun], apart[begun]):
            pieces.append(Piece(text[begun:index], apart[begun], kinds[begun]))
            begun = index
    return pieces


def _refuse_unlike(before: Score, after: Score) -> None:
    for what, first, second in (
        ("benchmark", before.benchmark, after.benchmark),
        ("variant", before.variant, after.variant),
        ("measures", *(", ".join(measure.name for measure in score.measures) for score in (before, after))),
    ):
        if first != second:
            fix = "Score both sets of answers in the same way."
            if what == "variant" and "; judge " in first and "; judge " in second:
                fix += (
                    " Where a judge answered as two versions, name one of them behind the # of --judge: it is asked, "
                    "and paid, for all of both sets anew."
                )
            raise InvalidData(
                f"The two scores are of different kinds: {what} {first!r} and {second!r}.",
                "Figures that were counted in two ways cannot be compared.",
                fix,
            )


def places_of(score: Score) -> dict[str, int]:
    """The row of each item.

    Raises:
        InvalidData: an item was scored twice.
    """
    places = {name: row for row, name in enumerate(score.ids)}
    if len(places) < len(score.ids):
        [(twice, _)] = Counter(score.ids).most_common(1)
        raise InvalidData(
            f"The item {twice!r} was scored twice.",
            "Answers are joined by item id, and an id names one answer.",
            "Keep one answer of each item.",
        )
    return places


def _first(score: Score) -> str:
    return repr(score.ids[0]) if score.ids else "nothing"


def select(score: Score, rows: np.ndarray) -> Score:
    """The score of some of its items, in the order of `rows`, their places."""
    return replace(
        score,
        ids=tuple(score.ids[row] for row in rows),
        counts={name: np.asarray(counts)[rows] for name, counts in score.counts.items()},
        wrong=np.asarray(score.wrong)[rows],
        faults=tuple(score.faults[row] for row in rows) if score.faults else ((),) * len(rows),
        clusters=tuple(score.clusters[row] for row in rows) if score.clusters else (),
    )


def _words_per_answer(sums) -> np.ndarray:
    return share(*(sums[name] for name in _COUNTED_WORDS))


WORDS_PER_ANSWER = Measure(WORDS, "Words per answer", "words", "", _words_per_answer)
"""For benchmarks that do not count them; a word is what stands between blanks."""


def _with_words(score: Score, answers: list[str]) -> dict[str, np.ndarray]:
    words = np.array([len(answer.split()) for answer in answers], float)
    return {**score.counts, _COUNTED_WORDS[0]: words, _COUNTED_WORDS[1]: np.ones(len(answers))}


def _notes(before: Score, after: Score, common: int) -> list[str]:
    notes = list(dict.fromkeys((*before.notes, *after.notes)))
    for which, score in (("before", before), ("after", after)):
        if left_out := len(score.ids) - common:
            answered = "item that only the set" if left_out == 1 else "items that only the set"
            notes.append(f"{left_out:,} {answered} {which} answers: left out of every figure here.")
    return notes
