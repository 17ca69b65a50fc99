import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfv.corrections.agreement import cohen_kappa, flagged_words, measure_agreement, word_spans
from rlhfv.corrections.edits import CorrectedAnswer, Edit
from rlhfv.errors import StudioError

TEXT = "There's a red fork, and two 猫 on the table."


def edit(start, end, replacement="new"):
    return Edit(start, end, replacement, "object")


@st.composite
def edit_sets(draw, text=TEXT):
    """Valid edits of the text."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    edits = tuple(edit(*cut) for cut in zip(cuts[::2], cuts[1::2], strict=False))
    try:
        CorrectedAnswer(text, edits).validate()
    except StudioError:
        return edits[:1]
    return edits


EDITS = edit_sets()


def span_f1(first, second, overlapping=False):
    found = measure_agreement([(TEXT, first, second)])
    return found.overlapping_f1 if overlapping else found.exact_f1


@given(EDITS, EDITS)
def test_every_figure_is_symmetric_and_in_its_range(first, second):
    for overlapping in (False, True):
        value = span_f1(first, second, overlapping)
        assert value == pytest.approx(span_f1(second, first, overlapping))
        assert 0 <= value <= 1
    assert span_f1(first, second) <= span_f1(first, second, True) + 1e-12
    flags = flagged_words(TEXT, first), flagged_words(TEXT, second)
    assert cohen_kappa(*flags) == pytest.approx(cohen_kappa(*reversed(flags)))
    assert -1 <= cohen_kappa(*flags) <= 1


@given(st.lists(EDITS, max_size=4))
def test_equal_sets_agree_fully(sets):
    agreement = measure_agreement((TEXT, edits, edits) for edits in sets)
    assert agreement.items == len(sets)
    assert (agreement.exact_f1, agreement.overlapping_f1, agreement.kappa) == (1.0, 1.0, 1.0)


@given(st.lists(st.booleans()), st.data())
def test_kappa_of_any_flags(first, data):
    second = data.draw(st.lists(st.booleans(), min_size=len(first), max_size=len(first)))
    assert -1 <= cohen_kappa(first, second) <= 1
    assert cohen_kappa(first, first) == 1


def test_span_f1_by_hand():
    first = (edit(0, 5), edit(10, 13), edit(20, 20))
    second = (edit(0, 5), edit(12, 15))
    assert span_f1(first, second) == pytest.approx(2 / 5)
    assert span_f1(first, second, True) == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert span_f1(first, ()) == 0
    assert span_f1((edit(3, 3),), (edit(0, 3),), True) == 1  # an insertion at the edge
    assert span_f1((edit(0, 3),), (edit(3, 6),), True) == 0  # neighbours share no character


def test_kappa_by_hand():
    # 20 and 15 agreed of 50, marginals 25/30: p = 0.7, e = 0.5, the textbook's 0.4
    first = [True] * 25 + [False] * 25
    second = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa([True, False], [False, True]) == -1
    assert cohen_kappa([False] * 3, [False] * 3) == 1
    assert cohen_kappa([], []) == 1
    with pytest.raises(ValueError):
        cohen_kappa([True], [])


def test_words_are_flagged_by_what_touches_them():
    words = [TEXT[start:end] for start, end in word_spans(TEXT)]
    assert words == ["There's", "a", "red", "fork", "and", "two", "猫", "on", "the", "table"]

    def flagged(*edits):
        return [word for word, flag in zip(words, flagged_words(TEXT, edits), strict=True) if flag]

    red, fork = TEXT.index("red"), TEXT.index("fork")
    assert flagged(edit(red, red + 3)) == ["red"]
    assert flagged(edit(red + 1, fork + 1)) == ["red", "fork"]
    assert flagged(edit(red, red)) == ["red"]
    assert flagged(edit(red + 1, red + 1)) == ["red"]
    assert flagged(edit(red + 3, red + 3)) == ["fork"]
    assert flagged(edit(len(TEXT), len(TEXT))) == ["table"]
    assert flagged(edit(fork + 4, fork + 5)) == []  # only the comma
    assert flagged_words("", (edit(0, 0),)) == flagged_words("…", (edit(0, 0),)) == []


def test_items_are_weighed_by_what_they_hold():
    agreement = measure_agreement(
        [("one two three", (edit(0, 3), edit(4, 7)), (edit(0, 3), edit(4, 7))), ("one two", (edit(0, 3),), ())]
    )
    assert agreement.items == 2
    assert agreement.exact_f1 == pytest.approx(2 * 2 / 5)
    assert agreement.kappa == pytest.approx((0.8 - 0.48) / (1 - 0.48))
