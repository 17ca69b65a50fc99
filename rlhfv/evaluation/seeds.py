"""How sure a figure of several training runs is: a bootstrap over items and over seeds at once.

An arm is a list of Scores, one for each seed, on the same items; the baseline, which no seed changes, is a list of
one. Each resample draws the items with replacement, the same ones for every arm and every seed, and the seeds: n − 1
of n with replacement, which counts the variance between runs in full (Rao and Wu, JASA 83, 1988; n of n would leave
out a share 1/n of it). The same seeds are drawn for all arms, which trained on the same draws of pairs. With one seed
the interval is about items only. From three seeds the share of the variance that is theirs is known roughly, not well.
"""

from collections.abc import Callable, Sequence

import numpy as np

from rlhfv.evaluation.bootstrap import DRAWS, LEVEL, Figure
from rlhfv.evaluation.score import Measure, Score

Arm = Sequence[Score]
_AT_ONCE = 250


class SeedBootstrap:
    """Resamples of `items` items and `seeds` seeds, drawn once and used for every figure; `seed` repeats them."""

    def __init__(self, items: int, seeds: int, seed: int = 0, draws: int = DRAWS):
        generator = np.random.default_rng(seed)
        self.items, self.seeds = items, seeds
        self._times = np.empty((draws, items), np.uint8)  # how often each item is in each resample
        for row in range(draws):
            self._times[row] = np.bincount(generator.integers(0, items, items, dtype=np.int32), minlength=items)
        drawn = max(1, seeds - 1)
        self._seeds = generator.multinomial(drawn, np.full(seeds, 1 / seeds), size=draws).astype(np.float64)
        self._known: dict[tuple[int, ...], tuple[Arm, dict[str, np.ndarray]]] = {}

    def value(self, arm: Arm, measure: Measure) -> Figure:
        """The measure of all seeds taken together."""
        return _figure(_whole(arm, measure), self._resampled(arm, measure))

    def difference(self, before: Arm, after: Arm, measure: Measure) -> Figure:
        """After minus before, in the measure's own unit."""
        return self._combine(before, after, measure, _difference)

    def relative_reduction(self, before: Arm, after: Arm, measure: Measure) -> Figure:
        """1 − after / before: 0.35 is "35 % lower"."""
        return self._combine(before, after, measure, _reduction)

    def _combine(self, before: Arm, after: Arm, measure: Measure, how: Callable) -> Figure:
        value = how(_whole(before, measure), _whole(after, measure))
        return _figure(value, how(self._resampled(before, measure), self._resampled(after, measure)))

    def _resampled(self, arm: Arm, measure: Measure) -> np.ndarray:
        return np.asarray(measure.of(self._sums(arm)), float)

    def _sums(self, arm: Arm) -> dict[str, np.ndarray]:
        """The arm's sums in every resample, the same for all of its measures."""
        if len(arm) not in (1, self.seeds):
            raise ValueError(f"an arm has {len(arm)} scores, not 1 or {self.seeds}")
        key = tuple(map(id, arm))
        if key not in self._known:
            weights = self._seeds if len(arm) == self.seeds else 1.0
            names = list(arm[0].counts)
            columns = [np.asarray(score.counts[name], float) for name in names for score in arm]
            table, parts = np.stack(columns, axis=1), range(0, len(self._times), _AT_ONCE)
            drawn = np.concatenate([self._times[first : first + _AT_ONCE] @ table for first in parts])
            by_seed = drawn.reshape(-1, len(names), len(arm))
            sums = {name: (by_seed[:, place] * weights).sum(axis=1) for place, name in enumerate(names)}
            self._known[key] = tuple(arm), sums  # with the scores, so that no id is given out again
        return self._known[key][1]


def changes_of_seeds(before: Arm, after: Arm, measure: Measure, relative: bool = False) -> list[float]:
    """After minus before of each seed, on all items; if `relative`, the relative reduction."""
    count = max(len(before), len(after))
    each = ([_whole([score], measure) for score in arm] for arm in (before, after))
    old, new = (values * count if len(values) == 1 else values for values in each)
    how = _reduction if relative else _difference
    return [float(how(first, second)) for first, second in zip(old, new, strict=True)]


def _whole(arm: Arm, measure: Measure) -> float:
    names = arm[0].counts
    return float(measure.of({name: np.sum([np.sum(score.counts[name]) for score in arm]) for name in names}))


def _difference(before, after):
    return after - before


def _reduction(before, after):
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - np.asarray(after, float) / np.asarray(before, float)


def _figure(value, resampled: np.ndarray) -> Figure:
    defined = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or not len(defined):
        return Figure(None, None, None)
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(float(value), float(low), float(high))
