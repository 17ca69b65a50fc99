"""Joined by id, paired, exact where it can be, and honest about what was left out."""

import math
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfv.errors import InvalidData
from rlhfv.evaluation.bootstrap import Bootstrap, Resamples
from rlhfv.evaluation.comparison import OUTCOMES, compare, cut, mcnemar, select
from rlhfv.evaluation.score import Fault, Item, Measure
from rlhfv.evaluation.sentences import certainty, headline, show_difference, show_range
from tests.evaluation.comparisons import (
    COVER,
    HAT,
    NO_HAT,
    RATE,
    make_comparison,
    make_items,
    make_score,
    say,
)


def test_every_item_has_one_outcome():
    comparison = make_comparison()
    assert comparison.outcomes == {"broken": 2, "mended": 12, "still wrong": 5, "right": 21}
    assert [row.outcome for row in comparison.rows[11:15]] == ["mended", "broken", "broken", "still wrong"]
    assert list(comparison.outcomes) == list(OUTCOMES)
    first = comparison.rows[0]
    assert first.item.question == "What is in picture 0?" and first.answers == (HAT, NO_HAT)
    assert [fault.kind for fault in first.faults[0]] == ["object"] and first.faults[1] == ()


def test_the_cost_stands_beside_the_gain():
    comparison = make_comparison()
    assert [change.measure.name for change in comparison.gains] == ["hal"]
    assert [change.measure.name for change in comparison.prices] == ["cover", "words"]
    [hal], [cover, words] = comparison.gains, comparison.prices
    assert (hal.before.value, hal.after.value, hal.difference.value) == (42.5, 17.5, -25.0)
    assert hal.before.low < 42.5 < hal.before.high and hal.difference.high < 0 and hal.clear and hal.better is True
    assert (cover.before.value, cover.after.value, cover.better) == (75.0, 50.0, False)
    expected = np.mean([len(row.answers[1].split()) for row in comparison.rows])
    assert words.after.value == pytest.approx(expected) and words.better is None


def test_answers_are_joined_by_id_whatever_their_order():
    before, after = make_score([1, 0, 1, 0, 1, 1]), make_score([0, 0, 1, 1, 0, 1])
    order = np.random.default_rng(0).permutation(6)
    turned = replace(
        after,
        ids=tuple(after.ids[row] for row in order),
        counts={name: counts[order] for name, counts in after.counts.items()},
        wrong=after.wrong[order],
        faults=tuple(after.faults[row] for row in order),
    )
    plain, joined = (compare(before, one, say(before), say(one), make_items(6), draws=200) for one in (after, turned))
    assert plain.rows == joined.rows
    assert plain.changes == joined.changes and plain.flips == joined.flips


def test_what_only_one_set_answers_is_left_out_and_said():
    before = make_score([1, 0, 1], ids=("item-0", "item-1", "item-2"), notes=("2 of 5 items are not answered.",))
    after = make_score([0, 1], ids=("item-1", "item-7"))
    comparison = compare(before, after, say(before), say(after), make_items(3), draws=50)
    assert [row.item.id for row in comparison.rows] == ["item-1"]
    assert comparison.gains[0].before.value == 0
    assert comparison.notes == (
        "2 of 5 items are not answered.",
        "2 items that only the set before answers: left out of every figure here.",
        "1 item that only the set after answers: left out of every figure here.",
    )


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"benchmark": "pope-random"}, "benchmark 'made-up' and 'pope-random'"),
        ({"variant": "by machine"}, "variant 'by hand' and 'by machine'"),
        ({"measures": (RATE,)}, "measures 'hal, cover' and 'hal'"),
        ({"ids": ("item-0", "item-0")}, "'item-0' was scored twice"),
        ({"ids": ("7", "8")}, "no item in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(changed, named):
    before = make_score([1, 0])
    after = replace(before, **changed)
    with pytest.raises(InvalidData, match=named):
        compare(before, after, {}, {}, make_items(2), draws=10)


def test_a_second_benchmark_shows_its_first_gain():
    comparison = make_comparison()
    before = make_score([0, 0, 1])
    together = compare(before, before, {}, {}, [], draws=10).beside([comparison])
    [(title, change)] = together.general
    assert title == "made-up" and change == comparison.gains[0]


def test_where_nothing_is_to_fall_the_gain_is_what_is_to_rise():
    accuracy = Measure("accuracy", "Accuracy", "percent", "higher", COVER.of)
    ratio = Measure("yes", "Yes ratio", "percent", "", RATE.of)
    score = replace(make_score([1, 0]), measures=(accuracy, ratio))
    comparison = compare(score, score, {}, {}, [], draws=10)
    assert [change.measure.name for change in comparison.gains] == ["accuracy"]
    assert [change.measure.name for change in comparison.prices] == ["yes", "words"]


def two_sided(b: int, c: int) -> float:
    """Another way to the same figure: all outcomes of b + c throws that are no likelier, by logarithms."""

    def log_chance(k):
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)

    n = b + c
    seen = log_chance(b)
    return math.fsum(math.exp(one) for k in range(n + 1) if (one := log_chance(k)) <= seen + 1e-9)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_exact(b, c):
    assert mcnemar(b, c) == pytest.approx(min(1.0, two_sided(b, c)), rel=1e-9)
    assert mcnemar(b, c) == mcnemar(c, b)


def test_mcnemar_by_hand():
    assert mcnemar(0, 0) == mcnemar(1, 0) == mcnemar(7, 7) == 1
    assert mcnemar(10, 0) == 2 / 2**10
    assert mcnemar(8, 2) == 2 * (1 + 10 + 45) / 2**10
    assert 0 <= mcnemar(14_216, 0) < 1e-300


@pytest.mark.parametrize(
    ("items", "mended", "broken", "clear"),
    [
        *((1, 1, 0, False), (5, 5, 0, False), (8, 4, 0, False), (6, 6, 0, True), (8, 8, 0, True), (12, 6, 0, True)),
        *((40, 12, 2, True), (40, 9, 2, False), (400, 5, 0, False), (400, 6, 0, True), (400, 0, 12, True)),
    ],
)
def test_nothing_is_clear_where_the_exact_test_disagrees(items, mended, broken, clear):
    comparison = make_comparison(items, mended, broken, 0, draws=5000)
    change, exact = comparison.gains[0], mcnemar(mended, broken)
    assert change.clear is clear is (exact <= 0.05)
    assert change.p == pytest.approx(exact, abs=0.02)
    assert headline(comparison).startswith("No clear difference") is not clear
    told = certainty(comparison, "A", "B")
    assert ("Below 6 items nothing is clear" in told) is (items < 6)
    assert ("Swapping" in told) is (items >= 6 and change.beside_zero and not clear)


def test_the_test_is_of_any_figure_and_takes_clusters_whole():
    """Six images with three questions each are six that changed, whatever the questions; five are too few."""
    for images, least in ((6, 2 / 2**6), (5, 2 / 2**5)):
        first, second = make_score(np.ones(3 * images)), make_score(np.zeros(3 * images))
        clusters = [str(row // 3) for row in range(3 * images)]
        assert Resamples(first.counts, second.counts, clusters=clusters).chance(RATE) == pytest.approx(least, abs=0.01)
    assert Resamples(first.counts, first.counts).chance(RATE) == 1
    nothing = {**first.counts, "n": np.zeros(15)}
    assert Resamples(nothing, nothing).chance(RATE) == 1


def test_intervals_are_of_images_where_several_questions_share_one():
    """Ten questions about each of 100 images, all wrong or all right, in another order after: as sure as 100 items."""
    wrong, clusters = np.arange(1000) < 300, tuple(f"image {row // 10}" for row in range(1000))
    plain, order = make_score(wrong), np.random.default_rng(0).permutation(1000)
    asked = replace(plain, clusters=clusters)
    hal = compare(asked, select(asked, order), {}, {}, []).gains[0]
    spread = 1.96 * np.sqrt(0.3 * 0.7 / 100) * 100
    assert (hal.before.low, hal.before.high) == pytest.approx((30 - spread, 30 + spread), abs=1.5)
    assert (hal.difference.low, hal.difference.high) == (0, 0)
    narrow = compare(plain, plain, {}, {}, []).gains[0].before
    assert hal.before.high - hal.before.low == pytest.approx(np.sqrt(10) * (narrow.high - narrow.low), rel=0.1)


def test_items_that_are_all_alike_have_no_interval():
    score = make_score(np.zeros(30))
    comparison = compare(score, score, say(score), say(score), make_items(30), draws=50)
    [hal] = comparison.gains
    assert show_range(RATE, hal.before) == "[no interval: all items alike]"
    assert show_difference(hal) == "+0.0 points [no interval: all items alike]"
    told = certainty(comparison, "A", "B")
    assert "items: +0.0 points [no interval: all items alike]." in told and "95 % interval" not in told


def test_resamples_agree_with_the_bootstrap_of_ratios():
    dice = np.random.default_rng(3)
    mentions = dice.poisson(5, 400) + 1
    below, above = mentions.astype(float), dice.binomial(mentions, 0.2).astype(float)
    share = Measure("share", "", "percent", "lower", lambda sums: 100 * sums["above"] / sums["below"])
    ratio = Bootstrap(400).ratio(above, below)
    figure = Resamples({"above": above, "below": below}).measure(share)
    assert figure.value == pytest.approx(100 * ratio.value)
    assert (figure.low, figure.high) == pytest.approx((100 * ratio.low, 100 * ratio.high), abs=0.15)


def test_both_voices_are_drawn_together():
    """They differ in 20 of 400 items only: unpaired, the interval would contain 0."""
    before = make_score(np.arange(400) < 160)
    after = make_score((np.arange(400) >= 20) & (np.arange(400) < 160))
    comparison = compare(before, after, say(before), say(after), make_items(400))
    [hal] = comparison.gains
    assert hal.difference.value == -5 and hal.difference.low < -5 < hal.difference.high < -2
    same = compare(before, before, say(before), say(before), make_items(400)).gains[0].difference
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_a_figure_that_is_not_defined_is_none():
    score = make_score([0, 0])
    score = replace(score, counts={**score.counts, "there": np.zeros(2)})
    cover = compare(score, score, {}, {}, [], draws=20).prices[0]
    assert cover.before.to_dict() == cover.difference.to_dict() == {"value": None, "low": None, "high": None}
    assert cover.better is None and not cover.clear


def test_fourteen_thousand_items_stay_small_and_fast():
    """AMBER's yes/no questions, with a count that is different in every item, which is the worst case."""
    dice = np.random.default_rng(0)
    items = 14_216
    counts = [{"bad": dice.integers(0, 2, items), "n": np.ones(items), "words": dice.random(items)} for _ in range(2)]
    tracemalloc.start()
    begun = time.process_time()
    resamples = Resamples(*counts)
    figure = resamples.difference(RATE)
    seconds, (_, peak) = time.process_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{items} items: {seconds:.1f} s, {peak / 2**20:.0f} MB")
    assert figure.low < figure.value < figure.high
    assert peak < 100 * 2**20 and seconds < 10


@given(st.text(max_size=40), st.text(max_size=40), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50))))
def test_pieces_are_the_answers_again(left, right, spans):
    faults = tuple(Fault(start, end, "object") for start, end in spans)
    for text, pieces in zip((left, right), cut((left, right), (faults, ())), strict=True):
        assert "".join(piece.text for piece in pieces) == text and all(piece.text for piece in pieces)


def test_pieces_tell_differences_from_faults():
    start = HAT.index("red hat")
    left, right = cut((HAT, NO_HAT), ((Fault(start, start + 7, "object"),), ()))
    assert [piece.text for piece in left if piece.fault] == ["red hat"]
    assert all(piece.differs for piece in left if piece.fault)
    assert not any(piece.fault or piece.differs for piece in right)


def test_an_item_that_the_questions_do_not_name_is_kept():
    score = make_score([1], ids=("x",))
    [row] = compare(score, score, {"x": "hm"}, {}, [], draws=10).rows
    assert row.item == Item("x", "") and row.answers == ("hm", "") and row.outcome == "still wrong"
