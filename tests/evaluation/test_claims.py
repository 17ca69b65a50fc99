"""Verdicts follow from figures by the stated rules."""

import numpy as np
import pytest

from rlhfv.evaluation.bootstrap import Figure
from rlhfv.evaluation.claims import (
    AT_LEAST,
    BETTER,
    HELD,
    MISSING,
    NO_WORSE,
    NOT_HELD,
    UNDECIDED,
    Claim,
    check_claims,
    judge,
)
from rlhfv.evaluation.score import Measure, Score, per_cent
from rlhfv.evaluation.seeds import SeedBootstrap, changes_of_seeds

RATE = Measure("rate", "rate", "percent", "lower", lambda sums: per_cent(sums["wrong"], sums["all"]))
RECALL = Measure("recall", "recall", "percent", "higher", lambda sums: per_cent(sums["wrong"], sums["all"]))


def score(wrong, items=200):
    """A score in which the first `wrong` of the items are wrong."""
    counts = {"wrong": (np.arange(items) < wrong).astype(int), "all": np.ones(items, int)}
    ids = tuple(map(str, range(items)))
    return Score("some", "", ids, counts, (RATE, RECALL), counts["wrong"] > 0, ((),) * items)


@pytest.mark.parametrize(
    ("rule", "low", "high", "gains", "margin", "verdict"),
    [
        (BETTER, 0.1, 3.0, (1, 2), 1.0, HELD),
        (BETTER, 0.1, 3.0, (1, -0.1), 1.0, UNDECIDED),  # one seed says otherwise
        (BETTER, -0.1, 3.0, (1, 2), 1.0, UNDECIDED),
        (BETTER, -0.5, 0.9, (1, -1), 1.0, NOT_HELD),  # as much as would matter is excluded
        (BETTER, -0.5, 1.0, (1, -1), 1.0, UNDECIDED),
        (BETTER, -4.0, -2.0, (-3, -3), 1.0, NOT_HELD),
        (BETTER, 0.1, 0.5, (0.2, 0.3), 1.0, HELD),  # small, but surely there
        (NO_WORSE, -1.9, 0.5, (0,), 2.0, HELD),
        (NO_WORSE, -2.1, 0.5, (0,), 2.0, UNDECIDED),
        (NO_WORSE, -5.0, -2.1, (0,), 2.0, NOT_HELD),
        (AT_LEAST, 0.35, 0.9, (0.5,), 0.348, HELD),
        (AT_LEAST, 0.2, 0.9, (0.5,), 0.348, UNDECIDED),
        (AT_LEAST, 0.1, 0.3, (0.2,), 0.348, NOT_HELD),
    ],
)
def test_the_rules(rule, low, high, gains, margin, verdict):
    assert judge(rule, Figure((low + high) / 2, low, high), gains, margin) == verdict


def test_what_is_not_defined_is_undecided_and_a_rule_has_to_be_known():
    assert judge(BETTER, Figure(None, None, None), (), 1.0) == UNDECIDED
    with pytest.raises(ValueError, match="is no rule"):
        judge("nice", Figure(1.0, 1.0, 1.0), (), 1.0)


def claim(**fields):
    values = {"benchmark": "some", "measure": "rate", "before": "base", "after": "new", "rule": BETTER, "margin": 1.0}
    return Claim("it helps", "Table 1", "50 → 12", **{**values, **fields})


def test_a_claim_is_checked_on_the_arms_it_names():
    arms = {"some": {"base": {0: score(100)}, "new": {1: score(40), 2: score(44), 3: score(36)}}}
    [finding] = check_claims([claim()], arms, ("base",))
    assert finding.verdict == HELD
    assert finding.change.value == pytest.approx(30.0)  # 50 % → 20 %: a gain of 30 points
    assert finding.change.low < 30 < finding.change.high
    assert finding.seeds == pytest.approx((30.0, 28.0, 32.0))
    assert finding.before.value == 50
    [worse] = check_claims([claim(before="new", after="base")], arms, ("base",))
    assert worse.verdict == NOT_HELD
    [more] = check_claims([claim(measure="recall")], arms, ("base",))
    assert more.change.value == pytest.approx(-30.0)
    assert more.verdict == NOT_HELD
    [share] = check_claims([claim(rule=AT_LEAST, margin=0.4)], arms, ("base",))
    assert share.change.value == pytest.approx(0.6)
    assert share.seeds == pytest.approx((0.6, 0.56, 0.64))
    assert share.verdict == HELD
    [none] = check_claims([claim(premise=60.0)], arms, ("base",))  # 50 % is not surely above 60 %
    assert (none.verdict, none.why) == (UNDECIDED, "there is nothing to lower here")
    [some] = check_claims([claim(premise=20.0)], arms, ("base",))
    assert (some.verdict, some.why) == (HELD, "")
    [lost] = check_claims([claim(after="nobody")], arms, ("base",))
    assert (lost.verdict, lost.change) == (MISSING, None)


def test_arms_are_compared_on_the_seeds_that_both_have():
    arms = {"some": {"one": {1: score(50), 2: score(60)}, "two": {2: score(20), 3: score(0)}}}
    [finding] = check_claims([claim(before="one", after="two")], arms, ())
    assert finding.seeds == pytest.approx((20.0,))
    [none] = check_claims([claim(before="one", after="two")], {"some": {**arms["some"], "two": {3: score(0)}}}, ())
    assert none.verdict == MISSING


def test_the_interval_of_one_seed_is_that_of_the_items():
    figure = SeedBootstrap(400, 1).value([score(100, 400)], RATE)
    spread = 1.96 * np.sqrt(0.25 * 0.75 / 400) * 100
    assert figure.low == pytest.approx(25 - spread, abs=0.6)
    assert figure.high == pytest.approx(25 + spread, abs=0.6)


def test_the_variance_between_seeds_counts_in_full():
    """Three runs whose rates lie far apart on many items: what is left is the variance of their mean, s² / 3."""
    rates = [10, 20, 30]
    arm = [score(rate * 100, 10_000) for rate in rates]
    draws = SeedBootstrap(10_000, 3, draws=2000)
    resampled = draws._resampled(arm, RATE)
    assert resampled.var() == pytest.approx(np.var(rates, ddof=1) / 3, rel=0.1)
    same = draws._resampled([score(2000, 10_000)] * 3, RATE)
    assert same.std() == pytest.approx(100 * np.sqrt(0.2 * 0.8 / 10_000), rel=0.1)


def test_seeds_are_drawn_together_for_both_arms():
    """Each seed gains exactly 10 points, whatever its level: the interval of the gain is that of the items only."""
    before, after = ([score(count * 20, 2000) for count in counts] for counts in ((20, 40, 60), (10, 30, 50)))
    change = SeedBootstrap(2000, 3).difference(before, after, RATE)
    assert change.value == pytest.approx(-10)
    assert change.high - change.low < 3
    assert changes_of_seeds(before, after, RATE) == pytest.approx([-10, -10, -10])
    with pytest.raises(ValueError, match="2 scores, not 1 or 3"):
        SeedBootstrap(2000, 3).value(before[:2], RATE)
