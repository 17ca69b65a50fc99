"""How sure a figure is: percentile bootstrap over scenes (Efron and Tibshirani, An Introduction to the Bootstrap,
1993, chapter 13), with the same resamples for every voice, so that differences are paired by scene.

A figure is a ratio of sums over scenes, such as false mentions / mentions; a scene is drawn with all its counts.
"""

from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
DRAWS = 5000


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
