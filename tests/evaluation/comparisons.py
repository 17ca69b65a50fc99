"""Made-up scores, whose outcomes and figures are known beforehand."""

import numpy as np

from rlhfv.evaluation.comparison import compare
from rlhfv.evaluation.score import Fault, Item, Measure, Score, per_cent

RATE = Measure("hal", "Answers with an error", "percent", "lower", lambda sums: per_cent(sums["bad"], sums["n"]))
COVER = Measure("cover", "Objects named", "percent", "higher", lambda sums: per_cent(sums["named"], sums["there"]))
HAT = "A man with a red hat and a dog."
NO_HAT = "A man with a dog."


def make_score(wrong, named=None, ids=None, **fields) -> Score:
    """`wrong` and `named` (of four objects) of each item; where the answer speaks of a hat, that is its fault."""
    wrong = np.asarray(wrong, bool)
    ids = tuple(ids or (f"item-{number}" for number in range(len(wrong))))
    counts = {
        "bad": wrong.astype(float),
        "n": np.ones(len(wrong)),
        "named": np.asarray(named if named is not None else np.full(len(wrong), 3), float),
        "there": np.full(len(wrong), 4.0),
    }
    start = HAT.index("red hat")
    faults = tuple((Fault(start, start + 7, "object"),) if bad else () for bad in wrong)
    return Score(
        **{
            "benchmark": "made-up",
            "variant": "by hand",
            "ids": ids,
            "counts": counts,
            "measures": (RATE, COVER),
            "wrong": wrong,
            "faults": faults,
            "notes": (),
            **fields,
        }
    )


def say(score: Score) -> dict[str, str]:
    return {name: HAT if bad else NO_HAT for name, bad in zip(score.ids, score.wrong, strict=True)}


def make_items(count: int) -> list[Item]:
    return [Item(f"item-{number}", f"What is in picture {number}?", f"image/{number}.jpg") for number in range(count)]


def make_comparison(count: int = 40, mended: int = 12, broken: int = 2, still: int = 5, draws: int = 400):
    """Items in this order: mended, broken, still wrong, right."""
    number = np.arange(count)
    before = make_score((number < mended) | ((number >= mended + broken) & (number < mended + broken + still)))
    after = make_score((number >= mended) & (number < mended + broken + still), np.full(count, 2))
    return compare(before, after, say(before), say(after), make_items(count), draws=draws)
