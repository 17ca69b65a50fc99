"""How answers to yes-or-no questions are read: POPE's way, AMBER's way, and as a person would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfv.evaluation.yes_no import read_amber, read_lenient, read_pope


@pytest.mark.parametrize(
    ("text", "pope", "amber", "lenient"),
    [
        # POPE's evaluate.py: cut at the first ".", no commas, parts at single blanks, "No", "no" or "not" exactly.
        ("Yes", "yes", "yes", "yes"),
        ("No", "no", "no", "no"),
        ("no", "no", "", "no"),
        ("No, there is no dog.", "no", "", "no"),
        ("Yes. It is not hidden", "yes", "", "yes"),
        ("There is not a dog.", "no", "", "no"),
        ("NO", "yes", "", "no"),
        ("no!", "yes", "", "no"),
        ("No\nThere is none.", "yes", "", "no"),
        ("Not sure", "yes", "", ""),
        ("There isn't a dog", "yes", "", "no"),
        ("There isn’t a dog", "yes", "", "no"),
        ("isn't", "yes", "", "no"),
        ("", "yes", "", ""),
        ("   ", "yes", "", ""),
        ("I know it is not there", "no", "", ""),
        ("It is there. No.", "yes", "", "no"),
        ("There is a dog in the image.", "yes", "", "yes"),
        ("There are two dogs", "yes", "", "yes"),
        ("A dog", "yes", "", ""),
        # AMBER's inference.py: exactly "Yes" or "No", and nothing is stripped.
        ("Yes.", "yes", "", "yes"),
        (" No", "no", "", "no"),
        ("YES!", "yes", "", "yes"),
        ("**No**", "yes", "", "no"),
        ("nobody", "yes", "", ""),
    ],
)
def test_each_reading(text, pope, amber, lenient):
    assert (read_pope(text), read_amber(text), read_lenient(text)) == (pope, amber, lenient)


def by_the_letter(text):
    """POPE's rule once more, a character at a time."""
    parts = [""]
    for letter in text:
        if letter == ".":
            break
        if letter == " ":
            parts.append("")
        elif letter != ",":
            parts[-1] += letter
    return "no" if any(part in ("No", "no", "not") for part in parts) else "yes"


@given(
    st.lists(st.sampled_from(["No", "no", "not", "Yes", " ", " ", ",", ".", "\n", "\t", "!", "n't", "🐶", "没"])).map(
        "".join
    )
)
def test_popes_reading_in_other_words(text):
    assert read_pope(text) == by_the_letter(text)


@given(st.text())
def test_any_text_has_a_reading(text):
    assert read_pope(text) in ("yes", "no")
    assert read_amber(text) in ("yes", "no", "") and read_lenient(text) in ("yes", "no", "")
