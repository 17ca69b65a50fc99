"""How sure a figure is: percentile bootstrap over scenes or items (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 13), with the same resamples for every voice, so that differences are paired.

A figure is made of sums over items, such as false mentions / mentions; an item is drawn with all its counts.
`Bootstrap` serves ratios of the drawn scenes, `Resamples` the measures of a `Score`, whatever they make of their sums.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlhfv.evaluation.score import Measure

LEVEL = 0.95
DRAWS = 5000
OF_IMAGES = "Intervals draw images, each with all of its questions."
"""What a score says whose items have clusters: questions about one image are right or wrong together."""
AT_ONCE = 1_000_000
"""Drawn items that are held in memory at a time."""


@dataclass(frozen=True)
class Figure:
    """A value with its interval, None where it is not defined (nothing to count)."""

    value: float | None
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


class Bootstrap:
    """Resamples of `scenes` scenes, drawn once and used for every figure.

    Args:
        scenes: number of scenes, at least 1.
        seed: the same seed gives the same intervals.
        draws: number of resamples.
    """

    def __init__(self, scenes: int, seed: int = 0, draws: int = DRAWS):
        self.scenes = scenes
        generator = np.random.default_rng(seed)
        # How often each scene is in each resample: sums over resamples are then one matrix product.
        self._times = generator.multinomial(scenes, np.full(scenes, 1 / scenes), size=draws).astype(np.float64)

    def ratio(self, counts: np.ndarray, of: np.ndarray) -> Figure:
        """sum(counts) / sum(of). Both have shape (scenes,)."""
        return _figure(_divide(np.sum(counts), np.sum(of)), self._ratios(counts, of))

    def difference(self, before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]) -> Figure:
        """Ratio after minus ratio before; each is a pair (counts, of), row by row of the same scenes."""
        value = _divide(*map(np.sum, after)) - _divide(*map(np.sum, before))
        return _figure(value, self._ratios(*after) - self._ratios(*before))

    def relative_reduction(
        self, before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]
    ) -> Figure:
        """1 − ratio after / ratio before: 0.35 is "35 % lower", negative is higher. Resamples in which the ratio
        before is 0 have no such figure and are left out."""
        value = 1 - _divide(_divide(*map(np.sum, after)), _divide(*map(np.sum, before)))
        return _figure(value, 1 - _divide(self._ratios(*after), self._ratios(*before)))

    def _ratios(self, counts: np.ndarray, of: np.ndarray) -> np.ndarray:
        return _divide(self._times @ np.asarray(counts, float), self._times @ np.asarray(of, float))


class Resamples:
    """Sums of the counts of one or more voices over the same resamples of their common items.

    Args:
        voices: of each voice its counts by name, arrays of shape (items,), row by row of the same items.
        clusters: of each item what is drawn in its place, with all of its items; () draws items.
        seed: the same seed gives the same intervals.
        draws: number of resamples.
    """

    def __init__(
        self, *voices: Mapping[str, np.ndarray], clusters: Sequence[str] = (), seed: int = 0, draws: int = DRAWS
    ):
        table = np.column_stack([np.asarray(counts, float) for voice in voices for counts in voice.values()])
        table = add_up(table, clusters)
        # Yes/no questions have few different rows of counts, and only how often each is drawn matters.
        rows, kind = np.unique(table, axis=0, return_inverse=True)
        kind, items = kind.reshape(-1).astype(np.int32), len(table)
        generator = np.random.default_rng(seed)
        self._rows, self._times, self._seed = rows, np.bincount(kind, minlength=len(rows)), seed
        self._draws, self._moved = draws, {}
        drawn = np.empty((draws, table.shape[1]))
        step = max(1, AT_ONCE // max(items, 1))
        for first in range(0, draws, step):
            size = min(step, draws - first)
            picked = kind[generator.integers(0, items, (size, items), dtype=np.int32)]
            picked += np.arange(size, dtype=np.int32)[:, None] * len(rows)
            times = np.bincount(picked.reshape(-1), minlength=size * len(rows)).reshape(size, len(rows))
            drawn[first : first + size] = times @ rows
        sums, columns = table.sum(axis=0), iter(range(table.shape[1]))
        places = [{name: next(columns) for name in voice} for voice in voices]
        self._places = places
        self._sums = [{name: sums[column] for name, column in place.items()} for place in places]
        self._drawn = [{name: drawn[:, column] for name, column in place.items()} for place in places]

    def measure(self, measure: Measure, voice: int = 0) -> Figure:
        """A voice's value, in the measure's unit; None where it is not defined."""
        return _figure(*self._values(measure, voice))

    def difference(self, measure: Measure, before: int = 0, after: int = 1) -> Figure:
        """The value after minus that before, resample by resample."""
        (first, first_drawn), (second, second_drawn) = self._values(measure, before), self._values(measure, after)
        return _figure(second - first, second_drawn - first_drawn)

    def chance(self, measure: Measure, before: int = 0, after: int = 1) -> float:
        """How often the values differ at least as much where the two voices change places in half of what is drawn, at
        random: the paired test by approximate randomisation (E. W. Noreen, Computer-Intensive Methods for Testing
        Hypotheses, 1989, chapter 2). Not below 2 / 2^n, the least that an exact one gives where n of them changed.
        1 where the difference is not defined."""
        first, second = self._sums[before], self._sums[after]
        moved, changed = self._swaps(before, after)
        with np.errstate(divide="ignore", invalid="ignore"):
            seen = float(measure.of(second)) - float(measure.of(first))
            swapped = np.asarray(
                measure.of({name: second[name] - sums for name, sums in moved.items()})
                - measure.of({name: first[name] + sums for name, sums in moved.items()}),
                float,
            )
        if not np.isfinite(seen):
            return 1.0
        less = np.abs(swapped) < abs(seen) * (1 - 1e-9)  # a value that is not defined is none of these
        return min(1.0, max((1 + int(np.count_nonzero(~less))) / (1 + len(swapped)), 2.0 ** (1 - changed)))

    def _swaps(self, before: int, after: int):
        """Sums that each draw of swaps moves between the voices, and how many of what is drawn differ in them."""
        if (before, after) not in self._moved:
            places = [self._places[voice] for voice in (before, after)]
            apart = self._rows[:, list(places[1].values())] - self._rows[:, [places[0][one] for one in places[1]]]
            differ = apart.any(axis=1)
            apart, times = apart[differ], self._times[differ]
            generator = np.random.default_rng(self._seed)
            moved = np.empty((self._draws, apart.shape[1]))
            step = max(1, AT_ONCE // max(len(apart), 1))
            for first in range(0, self._draws, step):
                size = min(step, self._draws - first)
                moved[first : first + size] = generator.binomial(times, 0.5, (size, len(times))) @ apart
            columns = {name: moved[:, column] for column, name in enumerate(places[1])}
            self._moved[before, after] = columns, int(times.sum())
        return self._moved[before, after]

    def _values(self, measure: Measure, voice: int) -> tuple[float, np.ndarray]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(measure.of(self._sums[voice])), np.asarray(measure.of(self._drawn[voice]), float)


def add_up(table: np.ndarray, clusters: Sequence[str]) -> np.ndarray:
    """The rows of each cluster added up, in the order of their names; as they are without clusters."""
    if not clusters:
        return table
    names, place = np.unique(np.asarray(clusters, str), return_inverse=True)
    added = np.zeros((len(names), table.shape[1]))
    np.add.at(added, place.reshape(-1), table)
    return added


def _divide(counts, of):
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.asarray(counts, float) / np.asarray(of, float)
    return np.where(np.isfinite(ratio), ratio, np.nan)


def _figure(value, resampled: np.ndarray) -> Figure:
    defined = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or not len(defined):
        return Figure(None, None, None)
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(float(value), float(low), float(high))
