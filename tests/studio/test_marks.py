from hypothesis import given
from hypothesis import strategies as st

from rlhfv.corrections.differing import MAX_MARKED, differing
from rlhfv.corrections.edits import Edit
from rlhfv.studio.marks import changed, marked

TEXT = st.text(alphabet=st.sampled_from("ab é́ \n猫犬👩‍👩‍👧.,"), max_size=40)


def words(parts):
    return [text.strip() for text, differs in parts if differs and text.strip()]


def test_the_words_that_differ_are_found_on_both_sides():
    left, right = differing("two books on a table", "one book on a table")
    assert words(left) == ["two books"] and words(right) == ["one book"]


@given(TEXT, TEXT)
def test_the_parts_of_a_side_are_its_text_again(left, right):
    for text, parts in zip((left, right), differing(left, right), strict=True):
        assert "".join(part for part, _ in parts) == text
        assert "".join(node if isinstance(node, str) else node[2] for node in marked(parts)) == text


def test_equal_texts_have_no_marks():
    assert not any(differs for side in differing("the same", "the same") for _, differs in side)


def test_a_very_long_answer_is_shown_unmarked():
    long = "word " * MAX_MARKED
    left, right = differing(long, "word")
    assert left == ((long, False),) and right == (("word", False),)


def test_blanks_around_marked_words_are_outside_the_mark():
    nodes = marked((("a", False), (" b ", True), ("c", False)))
    assert nodes == ["a", " ", ["mark", {}, "b"], " ", "c"]


def test_one_correction_shows_what_went_and_what_came():
    assert changed("a red dog", Edit(2, 5, "blue", "attribute")) == [["del", {}, "red"], " ", ["ins", {}, "blue"]]
    assert changed("a red dog", Edit(2, 6, "", "attribute")) == [["del", {}, "red "]]
    assert changed("a red dog", Edit(9, 9, " here", "other")) == [["ins", {}, " here"]]
