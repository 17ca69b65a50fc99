import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfv.corrections.adjudication import compare_edits, merge_edits
from rlhfv.corrections.edits import CorrectedAnswer, Edit
from rlhfv.errors import InvalidCorrection, StudioError

TEXT = "abcdefghij"


def edit(start, end, replacement="X", kind="object"):
    return Edit(start, end, replacement, kind)


@st.composite
def valid_edits(draw):
    edits = ()
    for start, length, text in draw(
        st.lists(st.tuples(st.integers(0, 10), st.integers(0, 3), st.sampled_from("XYZ")), max_size=5)
    ):
        tried = (*edits, edit(start, start + length, text))
        try:
            CorrectedAnswer(TEXT, tried).validate()
        except StudioError:
            continue
        edits = tried
    return CorrectedAnswer(TEXT, edits).edits


@given(valid_edits(), valid_edits())
def test_a_merge_is_valid_and_holds_all_edits_or_names_a_conflict(first, second):
    compared, swapped = compare_edits(first, second), compare_edits(second, first)
    assert set(compared.conflicts) == {(one, other) for other, one in swapped.conflicts}
    parts = {*compared.shared, *compared.only_first, *compared.only_second}
    assert parts | {each for pair in compared.conflicts for each in pair} == {*first, *second}
    if compared.conflicts:
        with pytest.raises(InvalidCorrection) as caught:
            merge_edits(first, second)
        assert str(compared.conflicts[0][0].replacement) in caught.value.what
    else:
        merged = merge_edits(first, second)
        CorrectedAnswer(TEXT, merged).validate()
        assert set(merged) == {*first, *second} and len(merged) == len(parts)
        assert merged == merge_edits(second, first)


def test_a_merge_with_itself_is_itself():
    edits = (edit(0, 2), edit(4, 4), edit(5, 7))
    assert merge_edits(edits, edits) == edits
    assert compare_edits(edits, edits).shared == edits


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        (edit(0, 3), edit(2, 5), True),
        (edit(0, 3), edit(3, 5), False),
        (edit(0, 3), edit(0, 3, "Y"), True),
        (edit(0, 3), edit(0, 3, kind="number"), True),
        (edit(2, 2), edit(2, 2, "Y"), True),
        (edit(2, 2), edit(2, 5), False),
        (edit(3, 3), edit(2, 5), True),
        (edit(5, 5), edit(2, 5), False),
    ],
)
def test_what_contradicts(one, other, conflict):
    for first, second in ((one, other), (other, one)):
        assert bool(compare_edits((first,), (second,)).conflicts) is conflict
