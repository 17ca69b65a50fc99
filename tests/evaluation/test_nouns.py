"""The nouns of a vocabulary that a text names: singulars, neighbours that make a verb of them, offsets."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfv.evaluation.nouns import find_nouns, lemma

VOCABULARY = frozenset(
    "dog cat man woman child person people glass grass bus knife shelf bookshelf necktie tomato box sky ski TV can "
    "hot board watch drawing sailing boat chopsticks earrings air-conditioning table".split()
)


def words(text):
    return [noun.word for noun in find_nouns(text, VOCABULARY)]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        *(("dogs", "dog"), ("men", "man"), ("women", "woman"), ("children", "child"), ("people", "people")),
        *(("glasses", "glass"), ("grass", "grass"), ("bus", "bus"), ("buses", "bus"), ("knives", "knife")),
        *(("shelves", "shelf"), ("bookshelves", "bookshelf"), ("neckties", "necktie"), ("tomatoes", "tomato")),
        *(("boxes", "box"), ("skies", "sky"), ("skis", "ski"), ("TVs", "TV"), ("chopsticks", "chopsticks")),
        *(("air-conditioning", "air-conditioning"), ("Dog", ""), ("DOGS", ""), ("tv", ""), ("dogged", ""), ("", "")),
    ],
)
def test_a_word_counts_as_itself_or_its_singular_and_case_counts(written, found):
    # AMBER's inference.py does not lower-case: "Dog" at the start of a sentence is lost, "TV" needs its capitals.
    assert lemma(written, VOCABULARY) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A dog, a dog and two dogs.", ["dog", "dog", "dog"]),  # repeats count each time
        ("The man can be seen beside a trash can.", ["man", "can"]),
        ("a can, table", ["can", "table"]),
        ("They watch the dog. She wears a watch on the arm.", ["dog", "watch"]),
        ("people waiting to board, next to a board", ["people", "board"]),
        ("next to board games", ["board"]),
        ("to ski; the skis", ["ski"]),
        ("He wears a watch as well.", ["watch"]),
        ("a boat drawing attention beside the drawing", ["boat", "drawing"]),
        ("a boat sailing by", ["boat"]),
        ("a hot dog", ["dog"]),  # as in AMBER's script, whose tagger takes "dog" for a noun here too
        ("the dog's man-made table", ["dog", "table"]),
        ("", []),
        ("...", []),
    ],
)
def test_neighbours_tell_verbs_from_nouns(text, found):
    assert words(text) == found


@pytest.mark.parametrize(
    ("text", "found"), [("do\u0301g dog\u0301 dog", ["dog"]), ("dog狗", []), ("狗 dog。", ["dog"])]
)
def test_other_letters_and_marks_make_another_word(text, found):
    assert words(text) == found


def test_in_real_captions_only_trash_cans_are_cans(benchmarks):
    kept = []
    for line in (benchmarks / "opera_captions" / "llava-1.5.greedy.jsonl").read_text().splitlines():
        text = json.loads(line)["caption"]
        kept += [text[noun.start - 6 : noun.end] for noun in find_nouns(text, {"can"})]
    assert kept == ["trash can"] * 3


def test_a_word_costs_the_same_in_a_long_text():
    """A copy of the rest for every word would be 20 GB here."""
    began = time.process_time()
    assert len(find_nouns("xx dog " * 50_000, {"dog"})) == 50_000
    assert time.process_time() - began < 1.0


PIECES = st.sampled_from(
    ["dog", "men", "glasses", "🐶", "👩‍👧", "狗", "e\u0301", "\u0301", " ", "\n", "—", "-", ".", "can", "be", "TV"]
)


@given(st.lists(PIECES, max_size=20).map("".join))
def test_spans_are_code_points_of_the_text_and_hold_the_word(text):
    past = 0
    for noun in find_nouns(text, VOCABULARY):
        assert past <= noun.start < noun.end <= len(text)
        assert lemma(text[noun.start : noun.end], VOCABULARY) == noun.word
        past = noun.end
