"""How far two people who corrected the same answers agree: on the places, and on the words that they flagged.

Every figure is the same whichever of the two comes first, and 1 where both made the same corrections.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import regex

from rlhfv.corrections.diff import words
from rlhfv.corrections.edits import Edit

_WORD = regex.compile(r"[\p{L}\p{N}]")


@dataclass(frozen=True)
class Agreement:
    """`items` double-corrected answers, their span F1 (0 to 1), and Cohen's kappa (-1 to 1) over all their words.

    Counts are summed over the items before they are divided, so a long answer weighs as much as its corrections do.
    Exact: start and end of two spans are the same. Overlapping: they share a character, an insertion (an empty
    span) lies inside or at the edge of the other; then precision and recall count each side's own spans. Kind and
    replacement play no part. F1 between two annotators is what kappa tends to where "nothing is wrong here" cannot be
    counted (G. Hripcsak, A. Rothschild, "Agreement, the F-Measure, and Reliability in Information Retrieval", 2005).
    """

    items: int
    exact_f1: float
    overlapping_f1: float
    kappa: float


def measure_agreement(items: Iterable[tuple[str, tuple[Edit, ...], tuple[Edit, ...]]]) -> Agreement:
    """Of (answer, corrections of the one, corrections of the other). No items at all count as full agreement."""
    items = list(items)
    pairs = [(first, second) for _, first, second in items]
    flags = [(flagged_words(text, first), flagged_words(text, second)) for text, first, second in items]
    return Agreement(
        len(items),
        _f1(pairs, _is_same_span),
        _f1(pairs, _overlaps),
        cohen_kappa([flag for first, _ in flags for flag in first], [flag for _, second in flags for flag in second]),
    )


def _f1(pairs: list[tuple[tuple[Edit, ...], tuple[Edit, ...]]], meet) -> float:
    """2 P R / (P + R), with P and R the shares of either side's spans that meet one of the other side; 1 where there
    is none at all."""
    counts, met = [0, 0], [0, 0]
    for first, second in pairs:
        counts[0] += len(first)
        counts[1] += len(second)
        met[0] += sum(any(meet(one, other) for other in second) for one in first)
        met[1] += sum(any(meet(one, other) for other in first) for one in second)
    if counts == [0, 0]:
        return 1.0
    if 0 in met:
        return 0.0
    precision, recall = met[0] / counts[0], met[1] / counts[1]
    return 2 * precision * recall / (precision + recall)


def _is_same_span(one: Edit, other: Edit) -> bool:
    return (one.start, one.end) == (other.start, other.end)


def _overlaps(one: Edit, other: Edit) -> bool:
    if one.start == one.end or other.start == other.end:
        return one.start <= other.end and other.start <= one.end
    return one.start < other.end and other.start < one.end


def word_spans(text: str) -> list[tuple[int, int]]:
    """The half-open code points of each token of `words` that holds a letter or a digit, in order."""
    spans, position = [], 0
    for token in words(text):
        if _WORD.search(token):
            spans.append((position, position + len(token)))
        position += len(token)
    return spans


def flagged_words(text: str, edits: tuple[Edit, ...]) -> list[bool]:
    """For each word of the answer whether a correction touches it. An insertion flags the word that it stands in or
    before, at the end of the answer the last.
    """
    spans = word_spans(text)
    flags = [False] * len(spans)
    for edit in edits:
        if edit.start < edit.end:
            for index, (start, end) in enumerate(spans):
                flags[index] |= start < edit.end and edit.start < end
        elif spans:
            behind = (index for index, (_, end) in enumerate(spans) if edit.start < end)
            flags[next(behind, len(spans) - 1)] = True
    return flags


def cohen_kappa(first: Sequence[bool], second: Sequence[bool]) -> float:
    """(p - e) / (1 - e): p the share of equal flags, e what the two shares of flagged words make expected by chance
    (J. Cohen, "A Coefficient of Agreement for Nominal Scales", 1960). From -1 to 1; 1 where both flags are constant
    and equal, and for no words.
    """
    count = len(first)
    if count == 0:
        return 1.0
    equal = sum(one == other for one, other in zip(first, second, strict=True)) / count
    shares = sum(first) / count, sum(second) / count
    expected = shares[0] * shares[1] + (1 - shares[0]) * (1 - shares[1])
    return 1.0 if expected == 1 else (equal - expected) / (1 - expected)
