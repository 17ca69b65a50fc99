"""Intervals that hold what they promise, the same for the same seed, and narrower where scenes are paired."""

import numpy as np
import pytest

from rlhfv.evaluation.bootstrap import Bootstrap

ONES = np.ones(400)


def test_a_rate_and_its_interval():
    counts = np.repeat([1, 0], [120, 280])
    figure = Bootstrap(400).ratio(counts, ONES)
    assert figure.value == pytest.approx(0.3)
    # The normal approximation: 0.3 ± 1.96 · sqrt(0.3 · 0.7 / 400).
    assert figure.low == pytest.approx(0.3 - 0.0449, abs=0.004) and figure.high == pytest.approx(0.3449, abs=0.004)


def test_a_ratio_is_one_of_sums_not_a_mean_of_ratios():
    figure = Bootstrap(2).ratio(np.array([1, 0]), np.array([1, 9]))
    assert figure.value == pytest.approx(0.1)


def test_the_same_seed_gives_the_same_interval():
    counts = np.random.default_rng(0).random(50)
    first, again, other = (Bootstrap(50, seed).ratio(counts, np.ones(50)) for seed in (1, 1, 2))
    assert first == again and first != other and first.value == other.value


def test_scenes_are_paired():
    """Two voices that differ in 20 of 400 scenes only: unpaired, the interval would contain 0."""
    before = np.repeat([1, 0], [160, 240])
    after = before.copy()
    after[:20] = 0
    bootstrap = Bootstrap(400)
    difference = bootstrap.difference((before, ONES), (after, ONES))
    assert difference.value == pytest.approx(-0.05) and difference.low < -0.05 < difference.high < -0.02
    shuffled = np.random.default_rng(0).permutation(after)
    unpaired = bootstrap.difference((before, ONES), (shuffled, ONES))
    assert unpaired.low < 0 < unpaired.high
    reduction = bootstrap.relative_reduction((before, ONES), (after, ONES))
    assert reduction.value == pytest.approx(0.125) and 0 < reduction.low < 0.125 < reduction.high < 0.25


def test_equal_voices_do_not_differ():
    counts = np.arange(30) % 2
    figure = Bootstrap(30).difference((counts, np.ones(30)), (counts, np.ones(30)))
    assert (figure.value, figure.low, figure.high) == (0, 0, 0)


def test_what_cannot_be_counted_is_none():
    bootstrap = Bootstrap(10)
    nothing, ones = np.zeros(10), np.ones(10)
    assert bootstrap.ratio(nothing, nothing).to_dict() == {"value": None, "low": None, "high": None}
    assert bootstrap.relative_reduction((nothing, ones), (ones, ones)).value is None


def test_a_rare_denominator_leaves_resamples_out():
    of = np.zeros(10)
    of[0] = 1
    figure = Bootstrap(10).ratio(of, of)
    assert (figure.value, figure.low, figure.high) == (1, 1, 1)


@pytest.mark.slow
def test_95_of_100_intervals_hold_the_truth():
    dice = np.random.default_rng(7)
    held = 0
    for trial in range(300):
        mentions = dice.poisson(6, 200) + 1
        figure = Bootstrap(200, trial, draws=1000).ratio(dice.binomial(mentions, 0.1), mentions)
        held += figure.low <= 0.1 <= figure.high
    assert 0.91 <= held / 300 <= 0.98
