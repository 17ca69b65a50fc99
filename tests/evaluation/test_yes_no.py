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
        ("It is there. No.", "yes", "", ""),
        ("There is a dog in the image.", "yes", "", "yes"),
        ("There are two dogs", "yes", "", "yes"),
        ("A dog", "yes", "", ""),
        # AMBER's inference.py: exactly "Yes" or "No", and nothing is stripped.
        ("Yes.", "yes", "", "yes"),
        (" No", "no", "", "no"),
        ("YES!", "yes", "", "yes"),
        ("**No**", "yes", "", "no"),
        ("nobody", "yes", "", ""),
        # As a person reads it: a yes or no that the answer begins with, else what its first clause states.
        ("There is a bench in the image, but there is no person on it.", "no", "", "yes"),
        ("There is a bench but no person.", "no", "", "yes"),
        ("There is a dog with no collar.", "no", "", "yes"),
        ("It is a dog without a collar.", "yes", "", ""),
        ("Not only is there a dog, there is a cat.", "yes", "", "yes"),
        ("It is not possible to say yes or no", "no", "", ""),
        ("There is no way to tell.", "no", "", ""),
        ("No idea", "no", "", ""),
        ("I'm sorry, I can't help with that. No.", "yes", "", ""),
        ("I cannot determine that, yes or no", "no", "", ""),
        ("There is no dog, yes?", "no", "", "no"),
        ("There are no dogs", "no", "", "no"),
        ("There's no dog", "no", "", "no"),
        ("There’s a dog", "yes", "", "yes"),
        ("There does not seem to be a dog", "no", "", "no"),
        ("The image shows no dog", "no", "", "no"),
        ("I do not see a dog", "no", "", "no"),
        ('"No" is my answer', "yes", "", "no"),
        ("Is there a dog? No.", "no", "", ""),
        ("There is.", "yes", "", ""),
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
