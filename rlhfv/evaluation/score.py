"""What a benchmark found in a set of answers: counts of every item, and figures that are made of their sums.

All figures of the field are functions of sums over items (hallucinated mentions / mentions, an F1 from three sums), so
each benchmark hands over its counts and its functions, and one bootstrap over items serves them all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Sums = Mapping[str, np.ndarray]
"""Sums of counts by name: numbers, or arrays of equal shape, one entry for each resample."""


@dataclass(frozen=True)
class Item:
    """One question of a benchmark. `image` is a path below the benchmark's folder, "" where nothing is shown; `group`
    is the benchmark's own kind of question, "" where there is one only."""

    id: str
    question: str
    image: str = ""
    group: str = ""


@dataclass(frozen=True)
class Measure:
    """A figure: `of` maps sums to its value in `unit`, NaN where it is not defined, for arrays of resamples too.

    `unit` is "percent" (0 to 100), "points", "words" or "count"; `better` is "lower", "higher" or "" where neither is.
    """

    name: str
    title: str
    unit: str
    better: str
    of: Callable[[Sums], np.ndarray]
    decimals: int = 1


@dataclass(frozen=True)
class Fault:
    """What is wrong in an answer: half-open code point range, and a word for it such as "object"."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class Score:
    """The findings of one benchmark on one set of answers.

    `variant` names how it was counted, in full, since variants are not interchangeable. `counts` are arrays of shape
    (items,) by name, in the order of `ids`. `wrong`, of the same shape, says which answers count as a failure: it is
    what a comparison calls broken or mended. `faults` are the wrong places of each answer, where they are known.
    `notes` are sentences for whoever reads the figures: what was missing, unreadable or not defined. `clusters`, where
    several items are about one image, name it for each item: resamples draw them whole.
    """

    benchmark: str
    variant: str
    ids: tuple[str, ...]
    counts: Mapping[str, np.ndarray]
    measures: tuple[Measure, ...]
    wrong: np.ndarray
    faults: tuple[tuple[Fault, ...], ...]
    notes: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    sums: Sums = field(init=False, repr=False)

    def __post_init__(self):
        object.__setattr__(self, "sums", {name: np.sum(counts) for name, counts in self.counts.items()})

    def figures(self) -> dict[str, float | None]:
        """The value of each measure, rounded as it is printed; None where it is not defined."""
        values = {measure.name: (float(measure.of(self.sums)), measure.decimals) for measure in self.measures}
        return {name: None if np.isnan(value) else round(value, places) for name, (value, places) in values.items()}


def to_row(score: Score) -> dict:
    """As JSON data, all but the measures, which are functions."""
    return {
        "benchmark": score.benchmark,
        "variant": score.variant,
        "ids": list(score.ids),
        "counts": {name: np.asarray(counts, float).tolist() for name, counts in score.counts.items()},
        "wrong": np.asarray(score.wrong, bool).tolist(),
        "faults": [[[one.start, one.end, one.kind] for one in faults] for faults in score.faults],
        "notes": list(score.notes),
        "clusters": list(score.clusters),
    }


def from_row(row: Mapping, measures: Sequence[Measure]) -> Score:
    """What `to_row` made, with the measures of its benchmark; rows of earlier versions have no faults or clusters."""
    return Score(
        row["benchmark"],
        row["variant"],
        tuple(row["ids"]),
        {name: np.array(counts, float) for name, counts in row["counts"].items()},
        tuple(measures),
        np.array(row["wrong"], bool),
        tuple(tuple(Fault(*one) for one in faults) for faults in row.get("faults", [[]] * len(row["ids"]))),
        tuple(row["notes"]),
        tuple(row.get("clusters", ())),
    )


def per_cent(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """100 · above / below, NaN where there is nothing below."""
    return 100 * share(above, below)


def share(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where there is nothing below."""
    above, below = np.asarray(above, float), np.asarray(below, float)
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below != 0)
