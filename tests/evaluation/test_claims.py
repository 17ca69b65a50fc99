"""Verdicts follow from figures by the stated rules."""

from dataclasses import replace

import numpy as np
import pytest

from rlhfv.errors import InvalidData
from rlhfv.evaluation.bootstrap import Figure
from rlhfv.evaluation.claims import (
    AT_LEAST,
    BETTER,
    HELD,
    MISSING,
    NO_WORSE,
    NOT_HELD,
    TOO_SMALL,
    UNDECIDED,
    Claim,
    check_claims,
    judge,
)
from rlhfv.evaluation.comparison import select
from rlhfv.evaluation.score import Measure, Score, per_cent
from rlhfv.evaluation.seeds import SeedBootstrap, changes_of_seeds, join_items

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
        (BETTER, 0.1, 0.5, (0.2, 0.3), 1.0, TOO_SMALL),  # surely there, and as surely less than would matter
        (BETTER, 0.1, 1.0, (0.2, 0.3), 1.0, HELD),
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


def test_the_variance_between_seeds_counts_with_student_s_width():
    """Three runs whose rates lie far apart on many items: the interval is that of t, 4.303 s / √3 on either side."""
    arm = [score(rate * 100, 10_000) for rate in (40, 50, 60)]
    draws = SeedBootstrap(10_000, 3, draws=500)
    figure = draws.value(arm, RATE)
    half = 4.303 * np.std([40, 50, 60], ddof=1) / np.sqrt(3)
    assert (figure.low, figure.high) == pytest.approx((50 - half, 50 + half), abs=1)
    same = draws.value([score(2000, 10_000)] * 3, RATE)
    assert same.high - same.low == pytest.approx(2 * 1.96 * 100 * np.sqrt(0.2 * 0.8 / 10_000), rel=0.15)
    two = SeedBootstrap(2000, 2, draws=500).value([score(980, 2000), score(1020, 2000)], RATE)
    assert two.high - two.low == pytest.approx(2 * 12.71 * np.std([49, 51], ddof=1) / np.sqrt(2), rel=0.1)


def test_a_claim_and_its_opposite_have_the_same_interval():
    arms = {"some": {"one": {1: score(100), 2: score(90)}, "two": {1: score(60), 2: score(80)}}}
    there, back = check_claims(
        [claim(before=one, after=two) for one, two in ("one two".split(), "two one".split())], arms, ()
    )
    assert (there.change.low, there.change.high) == pytest.approx((-back.change.high, -back.change.low))


def test_an_interval_ends_where_its_unit_does():
    draws = SeedBootstrap(200, 3, draws=500)
    assert draws.value([score(count) for count in (0, 4, 20)], RATE).low == 0
    assert draws.value([score(count) for count in (200, 190, 170)], RATE).high == 100
    gone = draws.relative_reduction([score(100)], [score(count) for count in (0, 4, 20)], RATE)
    assert gone.high == 1


def test_a_difference_of_rates_ends_at_a_hundred_points_and_one_of_lengths_nowhere():
    """Two seeds far apart: t lies within ±12.7 for 95 % of the time."""
    draws, apart = SeedBootstrap(200, 2, draws=500), ([score(200), score(0)], [score(0), score(200)])
    arms = [([score(100)], arm) for arm in apart] + [(apart[0], apart[1])]
    for before, after in arms:
        figure = draws.difference(before, after, RATE)
        assert (figure.low, figure.high) == (-100, 100)
    words = draws.difference(*arms[-1], replace(RATE, unit="words"))
    assert words.low < -100 and words.high > 100
    near = draws.difference([score(100)], [score(90), score(91)], RATE)
    assert -100 < near.low < near.high < 100


@pytest.mark.parametrize(("spread", "least"), [(0, 0.95), (4, 0.94), (10, 0.92)])
def test_intervals_of_three_runs_hold_what_they_say(spread, least):
    """Runs whose true rates differ by `spread` points around 30: with 300 trials, 0.92 is 2 standard errors below."""
    generator, draws, inside = np.random.default_rng(1), SeedBootstrap(100, 3, draws=300), 0
    for _ in range(300):
        rates = 0.3 + generator.normal(0, spread / 100, 3)
        arm = [with_wrong(generator.random(100) < rate) for rate in rates]
        figure = draws.value(arm, RATE)
        inside += figure.low <= 30 <= figure.high
    assert inside / 300 >= least


def with_wrong(wrong):
    return replace(score(0, len(wrong)), counts={"wrong": wrong, "all": np.ones(len(wrong))})


def test_scores_are_joined_by_id_whatever_their_order():
    """The new arm answers its items in another order, and is wrong about those that the base is wrong about."""
    base, order = score(100), np.random.default_rng(0).permutation(200)
    arms = {"some": {"base": {0: base}, "new": {1: base, 2: select(base, order)}}}
    [finding] = check_claims([claim()], arms, ("base",))
    assert (finding.change.value, finding.change.low, finding.change.high) == (0, 0, 0)
    joined = join_items(arms["some"])
    assert joined["new"][2].ids == base.ids and (joined["new"][2].counts["wrong"] == base.counts["wrong"]).all()
    assert joined["new"][2].notes == () and join_items(joined) is joined


def test_items_that_some_voice_lacks_are_left_out_of_all_and_it_is_said():
    """One of 200 items failed in one run: the figures are of the other 199, and the page can be written."""
    base = score(100)
    arms = {"some": {"base": {0: base}, "new": {1: select(base, np.arange(1, 200))}}}
    [finding] = check_claims([claim()], arms, ("base",))
    assert finding.before.value == finding.after.value == pytest.approx(100 * 99 / 199)
    joined = join_items(arms["some"])
    told = "All figures are of the 199 items that every voice has; 200 have an answer."
    assert {one.notes for arm in joined.values() for one in arm.values()} == {(told,)}
    arms["some"]["new"][1] = replace(base, ids=tuple(f"other {name}" for name in base.ids))
    with pytest.raises(InvalidData, match="no item in common"):
        check_claims([claim()], arms, ("base",))


def test_images_are_drawn_with_all_of_their_questions():
    """Ten questions about each of 100 images, all right or all wrong: as sure as 100 items, not 1,000."""
    plain = score(300, 1000)
    asked = replace(plain, clusters=tuple(f"image {number // 10}" for number in range(1000)))
    few, many = (check_claims([claim()], arms_of(one), ("base",))[0].before for one in (asked, plain))
    spread = 1.96 * np.sqrt(0.3 * 0.7 / 100) * 100
    assert (few.low, few.high) == pytest.approx((30 - spread, 30 + spread), abs=2)
    assert few.high - few.low == pytest.approx(np.sqrt(10) * (many.high - many.low), rel=0.1)


def arms_of(one):
    return {"some": {"base": {0: one}, "new": {1: one}}}


def test_seeds_are_drawn_together_for_both_arms():
    """Each seed gains exactly 10 points, whatever its level: the interval of the gain is that of the items only."""
    before, after = ([score(count * 20, 2000) for count in counts] for counts in ((20, 40, 60), (10, 30, 50)))
    change = SeedBootstrap(2000, 3, draws=500).difference(before, after, RATE)
    assert change.value == pytest.approx(-10)
    assert change.high - change.low < 3
    assert changes_of_seeds(before, after, RATE) == pytest.approx([-10, -10, -10])
    with pytest.raises(ValueError, match="2 scores, not 1 or 3"):
        SeedBootstrap(2, 3, draws=2).value(before[:2], RATE)
