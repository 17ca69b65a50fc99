"""How sure a figure of several training runs is: a bootstrap over items, and the spread between runs on top.

An arm is a list of Scores, one for each seed, on the same items in the same order (see `join_items`); the baseline,
which no seed changes, is a list of one. Each resample draws the items with replacement, the same ones for every arm
and every seed, or whole images where the scores have clusters. To its value comes t · s / √n: s is the standard
deviation of the n seeds' own values on all items (of their paired differences, for a difference) and t is drawn from
Student's distribution with n − 1 degrees of freedom (Student, The Probable Error of a Mean, Biometrika 6, 1908).
Adding up one draw of each source follows Behrens and Fisher (Fisher, The Fiducial Argument in Statistical Inference,
Annals of Eugenics 6, 1935). What a seed changes in single items is counted on both sides, so that the interval is
rather too wide where the runs agree. With one seed it is about items only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from rlhfv.errors import InvalidData
from rlhfv.evaluation.bootstrap import DRAWS, LEVEL, Figure, add_up
from rlhfv.evaluation.comparison import places_of, select
from rlhfv.evaluation.score import Measure, Score

Arm = Sequence[Score]
_AT_ONCE = 250
_OF_STUDENT = 200_000  # from which the quantiles of t are read
_RANGES = {"percent": (0.0, 100.0), "words": (0.0, np.inf), "count": (0.0, np.inf)}


def join_items(arms: Mapping[str, Mapping[int, Score]]) -> Mapping[str, Mapping[int, Score]]:
    """The arms of one benchmark (name → seed → score) on the items that all of their scores have, in one order. Where
    others are left out, the notes of every score say so.

    Raises:
        InvalidData: there is no such item, or an item was scored twice.
    """
    scores = [score for arm in arms.values() for score in arm.values()]
    if len({score.ids for score in scores}) < 2:
        return arms
    places = [places_of(score) for score in scores]
    common = [name for name in scores[0].ids if all(name in place for place in places)]
    if not common:
        raise InvalidData(
            f"The answers to {scores[0].benchmark} have no item in common.",
            "Arms and seeds are compared item by item, joined by id.",
            "Let all voices answer the same questions.",
        )
    several, notes = len(set().union(*places)), ()
    if len(common) < several:
        notes = (f"All figures are of the {len(common):,} items that every voice has; {several:,} have an answer.",)

    def joined(score: Score) -> Score:
        place = places_of(score)
        score = select(score, np.array([place[name] for name in common]))
        return replace(score, notes=(*score.notes, *notes))

    return {name: {seed: joined(score) for seed, score in arm.items()} for name, arm in arms.items()}


def count_drawn(score: Score) -> int:
    """How many items a resample draws, or images."""
    return len(set(score.clusters)) or len(score.ids)


class SeedBootstrap:
    """Resamples of `items` items (see `count_drawn`) for arms of `seeds` seeds, drawn once and used for every figure;
    `seed` repeats them."""

    def __init__(self, items: int, seeds: int, seed: int = 0, draws: int = DRAWS):
        generator = np.random.default_rng(seed)
        self.items, self.seeds = items, seeds
        self._times = np.empty((draws, items), np.uint8)  # how often each item is in each resample
        for row in range(draws):
            self._times[row] = np.bincount(generator.integers(0, items, items, dtype=np.int32), minlength=items)
        self._between = np.zeros(draws)  # |t| / √n of each resample: evenly spaced quantiles, shuffled
        if seeds > 1:
            student = np.abs(generator.standard_t(seeds - 1, _OF_STUDENT))
            quantiles = np.quantile(student, (np.arange(draws) + 0.5) / draws)
            self._between = generator.permutation(quantiles) / np.sqrt(seeds)
        self._known: dict[tuple[int, ...], tuple[Arm, dict[str, np.ndarray]]] = {}

    def value(self, arm: Arm, measure: Measure) -> Figure:
        """The measure of all seeds taken together; its interval ends where its unit does."""
        each = [_whole([score], measure) for score in arm]
        return self._figure(
            _whole(arm, measure), self._resampled(arm, measure), each, _RANGES.get(measure.unit, (-np.inf, np.inf))
        )

    def difference(self, before: Arm, after: Arm, measure: Measure) -> Figure:
        """After minus before, in the measure's own unit; of rates it ends at −100 and 100 points."""
        return self._combine(before, after, measure, relative=False)

    def relative_reduction(self, before: Arm, after: Arm, measure: Measure) -> Figure:
        """1 − after / before: 0.35 is "35 % lower"; never above 1, since no rate is below 0."""
        return self._combine(before, after, measure, relative=True)

    def _combine(self, before: Arm, after: Arm, measure: Measure, relative: bool) -> Figure:
        how = _reduction if relative else _difference
        each = changes_of_seeds(before, after, measure, relative)
        resampled = how(self._resampled(before, measure), self._resampled(after, measure))
        low, high = _RANGES.get(measure.unit, (-np.inf, np.inf))
        ends = (-np.inf, 1.0) if relative else (low - high, high - low)
        return self._figure(how(_whole(before, measure), _whole(after, measure)), resampled, each, ends)

    def _figure(self, value, resampled: np.ndarray, each: Sequence[float], ends: tuple[float, float]) -> Figure:
        """None where it is not defined, for one of the seeds too: how far they lie apart is not known then."""
        if len(each) > 1:
            spread = self._between * np.std(each, ddof=1)
            resampled = np.concatenate([resampled + spread, resampled - spread])  # a claim mirrors its opposite
        defined = resampled[np.isfinite(resampled)]
        if not np.isfinite(value) or not len(defined):
            return Figure(None, None, None)
        low, high = np.clip(np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]), *ends)
        return Figure(float(value), float(low), float(high))

    def _resampled(self, arm: Arm, measure: Measure) -> np.ndarray:
        return np.asarray(measure.of(self._sums(arm)), float)

    def _sums(self, arm: Arm) -> dict[str, np.ndarray]:
        """The arm's sums in every resample, the same for all of its measures."""
        if len(arm) not in (1, self.seeds):
            raise ValueError(f"an arm has {len(arm)} scores, not 1 or {self.seeds}")
        key = tuple(map(id, arm))
        if key not in self._known:
            names = list(arm[0].counts)
            columns = [np.sum([np.asarray(score.counts[name], float) for score in arm], axis=0) for name in names]
            table, parts = np.stack(columns, axis=1), range(0, len(self._times), _AT_ONCE)
            table = add_up(table, arm[0].clusters)
            drawn = np.concatenate([self._times[first : first + _AT_ONCE] @ table for first in parts])
            sums = {name: drawn[:, place] for place, name in enumerate(names)}
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
