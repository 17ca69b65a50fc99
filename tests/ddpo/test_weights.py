from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfv.corrections.edits import CorrectedAnswer, Edit
from rlhfv.ddpo.config import RECIPES
from rlhfv.ddpo.weights import weigh_diff, weigh_edits

PROMPT = [90, 91, 92, 93, 94]

# Words are the tokens, the last token ends the answer. `#` marks a token with weight γ, `.` a shared one, worked out
# by hand from the rules of each recipe: (rejected, [(old, new)], {rule: (chosen, rejected)}).
CASES = {
    "replace": (
        "there is a knife on the table",
        [("knife", "fork")],
        {
            "edits": ("...#....", "...#...."),
            "seam": ("...#....", "...#...."),
            "diff": ("...#....", "...#...."),
        },
    ),
    "insert": (
        "there is a cup on the table",
        [("cup ", "cup and a fork ")],
        {
            "edits": ("....###....", "........"),
            "seam": ("....###....", "....#..."),
            "diff": ("...........", "........"),
        },
    ),
    "insert at the end": (  # the end token alone is too short a match, so the released code swallows it
        "there is a cup",
        [("", " and a fork")],
        {
            "edits": ("....###.", "....."),
            "seam": ("....###.", "....#"),
            "diff": ("....####", "....#"),
        },
    ),
    "delete": (
        "there is a cup and a fork on the table",
        [("and a fork ", "")],
        {
            "edits": ("........", "....###...."),
            "seam": ("....#...", "....###...."),
            "diff": ("........", "..........."),
        },
    ),
    "two near edits": (  # two tokens lie between them: one token short of a match that the released code keeps
        "a cat and a dog sit here now",
        [("cat", "bird"), ("dog", "cow")],
        {
            "edits": (".#..#....", ".#..#...."),
            "seam": (".#..#....", ".#..#...."),
            "diff": (".####....", ".####...."),
        },
    ),
    "two edits three tokens apart": (
        "a cat left of a dog sit here now",
        [("cat", "bird"), ("dog", "cow")],
        {
            "edits": (".#...#....", ".#...#...."),
            "seam": (".#...#....", ".#...#...."),
            "diff": (".#...#....", ".#...#...."),
        },
    ),
    "no edit": (
        "there is a cup",
        [],
        {"edits": (".....", "....."), "seam": (".....", "....."), "diff": (".....", ".....")},
    ),
}
RULES = {  # recipe: (rule, γ, shared)
    "paper": ("edits", 5.0, 1.0),
    "rlhfv-2024": ("diff", 1.1, 1.0),
    "vl-rlhf": ("diff", 1.0, 0.0),
    "chip-weights": ("diff", 4.0, 1.0),
    "dpo": ("edits", 1.0, 1.0),
    "demo": ("seam", 5.0, 1.0),
}


def word_offsets(text):
    offsets, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        offsets.append((at, at + len(word)))
        at += len(word)
    return [*offsets, (len(text), len(text))]


def place(answer, old, new):
    """The smallest span: what `new` keeps of `old` stays out of the edit, so that an insertion is one."""
    at = answer.index(old) if old else len(answer)
    if new.startswith(old):
        at, old, new = at + len(old), "", new[len(old) :]
    return Edit(at, at + len(old), new, "object")


def weigh(recipe, rejected, edits):
    answer = CorrectedAnswer(rejected, tuple(place(rejected, *edit) for edit in edits))
    chosen = answer.corrected
    if recipe.weights == "token-diff":
        known = {}
        ids = [[known.setdefault(word, len(known)) for word in [*text.split(), "</s>"]] for text in (chosen, rejected)]
        return weigh_diff(PROMPT, *ids, gamma=recipe.gamma, shared=recipe.shared_weight)
    rules = {"gamma": recipe.gamma, "shared": recipe.shared_weight, "seam": recipe.seam}
    sides = ((chosen, answer.corrected_segments), (rejected, answer.original_segments))
    return tuple(
        weigh_edits(word_offsets(text), [(segment.start, segment.end) for segment in segments], **rules)
        for text, segments in sides
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_weighs_as_computed_by_hand(name, case):
    rejected, edits, expected = CASES[case]
    rule, gamma, shared = RULES[name]
    wanted = tuple([gamma if mark == "#" else shared for mark in marks] for marks in expected[rule])
    assert weigh(RECIPES[name], rejected, edits) == wanted


def test_every_piece_of_a_character_is_corrected_with_it():
    pieces = [(0, 3), (3, 4), (3, 4), (3, 4), (3, 4), (4, 6), (6, 6)]
    assert weigh_edits(pieces, [(3, 4)], gamma=5.0) == [1, 5, 5, 5, 5, 1, 1]
    assert weigh_edits(pieces, [(4, 4)], gamma=5.0, seam=True) == [1, 1, 1, 1, 1, 5, 1]


def test_a_token_that_reaches_into_a_span_is_corrected():
    assert weigh_edits([(0, 4), (4, 10), (10, 10)], [(5, 10)], gamma=5.0) == [1, 5, 1]
    assert weigh_edits([(0, 6), (6, 10), (10, 10)], [(5, 10)], gamma=5.0) == [5, 5, 1]


@given(st.text(max_size=30), st.data())
def test_the_tokens_of_a_span_cover_it_and_no_others_are_weighed(text, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
    offsets = [*pairwise(cuts), (len(text), len(text))]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    weights = weigh_edits(offsets, [(start, end)], gamma=3.0)
    corrected = {
        at
        for (left, right), weight in zip(offsets, weights, strict=True)
        if weight == 3.0
        for at in range(left, right)
    }
    assert set(range(start, end)) <= corrected
    assert all(
        right > start and left < end for (left, right), weight in zip(offsets, weights, strict=True) if weight == 3.0
    )
    assert weights[-1] == 1.0


@given(st.lists(st.integers(0, 5), max_size=20), st.lists(st.integers(0, 5), max_size=20))
def test_a_diff_weighs_both_sides_or_none(chosen, rejected):
    first, second = weigh_diff(PROMPT, chosen, rejected, gamma=2.0)
    assert (len(first), len(second)) == (len(chosen), len(rejected))
    assert (2.0 in first) == (2.0 in second)
    if chosen == rejected:
        assert 2.0 not in first
