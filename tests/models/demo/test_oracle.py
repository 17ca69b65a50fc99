"""Reading and oracle: truth is found true, and a corrected answer holds nothing false, whatever was said."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from rlhfv.corrections.edits import CorrectedAnswer
from rlhfv.models.demo.language import (
    DESCRIBE,
    DETAILED_PROMPT,
    HOW_MANY,
    LIST,
    PRESENT,
    SCENE,
    WHAT_AT,
    WHERE,
    ask_short,
    describe,
    make_conversation,
)
from rlhfv.models.demo.oracle import annotate
from rlhfv.models.demo.reading import find_mentions, read_question, review
from rlhfv.models.demo.scenes import PlacedObject, Scene, draw_scene

scenes = some.builds(draw_scene, some.just("validation"), some.integers(0, 5_000))
dice = some.builds(random.Random, some.integers(0, 10_000))

KITCHEN = Scene(
    "test",
    0,
    "kitchen",
    0,
    (
        PlacedObject("fork", 0, 1, "large", (0, 0)),
        PlacedObject("cup", 4, 2, "large", (0, 0)),
        PlacedObject("cake", 8, 1, "small", (0, 0)),
    ),
)


def correct(scene, question, answer):
    edits = annotate(scene, question, answer)
    corrected = CorrectedAnswer(answer, edits)
    corrected.validate()
    return corrected.corrected


def false_claims(scene, question, answer):
    return [finding for finding in review(scene, question, answer) if not finding.is_true]


@given(scenes, dice)
def test_the_truth_is_found_true(scene, dice):
    assert not false_claims(scene, DETAILED_PROMPT, describe(scene, dice, habits=False))
    question, answer = ask_short(scene, dice)
    assert not false_claims(scene, question, answer)
    assert annotate(scene, question, answer) == ()


@settings(deadline=None, max_examples=150)
@given(scenes, scenes, dice)
def test_a_corrected_description_holds_nothing_false(scene, other, dice):
    for answer in (describe(scene, dice), describe(other, dice)):
        corrected = correct(scene, DETAILED_PROMPT, answer)
        assert not false_claims(scene, DETAILED_PROMPT, corrected)
        assert "  " not in corrected and " ." not in corrected and corrected == corrected.strip()


@settings(deadline=None, max_examples=150)
@given(scenes, scenes, dice)
def test_a_corrected_short_answer_holds_nothing_false(scene, other, dice):
    question, _ = ask_short(scene, dice)
    for _, answer in make_conversation(other, dice):
        assert not false_claims(scene, question, correct(scene, question, answer))


words = some.sampled_from(
    "There is are a an two three no not cat dogs cup cups knife on the left in the top right , . and with kitchen "
    "street of orange nothing Yes No mug 4 several another".split()
)


@settings(deadline=None, max_examples=300)
@given(scenes, some.lists(words, max_size=25).map(" ".join), some.sampled_from(DESCRIBE + LIST + PRESENT + WHERE))
def test_even_word_salad_is_corrected(scene, answer, question):
    question = question.format(picture="image", one="a cat", many="cats", name="cat")
    assert not false_claims(scene, question, correct(scene, question, answer))


@given(some.text(max_size=80))
def test_any_text_can_be_read(text):
    annotate(KITCHEN, text, text)
    for mention in find_mentions(text):
        assert 0 <= mention.start <= mention.noun_start < mention.end <= len(text)


@pytest.mark.parametrize(
    ("question", "answer", "corrected"),
    [
        (
            "Describe this image in detail.",
            "In the top left is a fork, with a knife nearby. There are two cups in the "
            "middle. A cake is in the bottom right.",
            "In the top left is a fork. There are two cups in the middle. A cake is in the bottom right.",
        ),
        (
            "Describe this image in detail.",
            "In the top left is a fork, with a knife nearby. There are two cups in the middle.",
            "In the top left is a fork, with a cake nearby. There are two cups in the middle.",
        ),
        (
            "Describe this image in detail.",
            "In the top left is a fork. There are three cups in the middle.",
            "In the top left is a fork. There are two cups in the middle.",
        ),
        ("Describe this image in detail.", "A cake is in the bottom left.", "A cake is in the bottom right."),
        (
            "Describe this image in detail.",
            "A dog is at the top. There are two cups in the middle.",
            "A fork is in the top left. There are two cups in the middle.",
        ),
        ("Describe this image in detail.", "The picture shows a street.", "The picture shows a kitchen."),
        (
            "Describe this image in detail.",
            "Someone put three mugs next to a fork.",
            "Someone put two cups next to a fork.",
        ),
        ("Is there a dog?", "Yes, there is a dog on the left.", "No, there is no dog in the picture."),
        ("Is there a cake?", "No, there is no cake in the picture.", "Yes, there is a cake in the bottom right."),
        ("How many cups are there?", "There are three cups.", "There are two cups."),
        ("Where is the cake?", "The cake is on the left.", "The cake is in the bottom right."),
        ("List the objects.", "I can see a fork, a knife and two cups.", "I can see a fork, a cake and two cups."),
    ],
)
def test_edits_are_those_of_a_careful_person(question, answer, corrected):
    assert correct(KITCHEN, question, answer) == corrected


def test_edits_are_minimal_and_typed():
    answer = (
        "The picture shows a kitchen. In the top left is a fork, with a knife nearby. There are three cups at the top."
    )
    edits = annotate(KITCHEN, DETAILED_PROMPT, answer)
    assert [(answer[edit.start : edit.end], edit.replacement, edit.kind) for edit in edits] == [
        ("knife", "cake", "object"),
        ("three", "two", "number"),
        ("at the top", "in the middle", "position"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two mugs and a sofa.", [("cup", 2, False), ("couch", 1, False)]),
        (
            "I cannot see a cat or a dog, but people.",
            [("cat", None, True), ("dog", None, True), ("person", None, False)],
        ),
        ("an orange cat", [("cat", 1, False)]),
        (
            "3 knives, a glass of wine, several computer mice",
            [("knife", 3, False), ("wine glass", 1, False), ("computer mouse", None, False)],
        ),
        ("No dogs. A pair of small red bikes", [("dog", None, True), ("bicycle", 2, False)]),
    ],
)
def test_free_wording_is_read(text, expected):
    assert [(one.name, one.count, one.negated) for one in find_mentions(text)] == expected


def test_places_belong_to_the_right_things():
    text = "On the left is a cup and in the upper right-hand corner of the image are a dog and a cat."
    text += " A fork to the left of a cup."
    found = {one.name: [sorted(place.cells) for place in one.places] for one in find_mentions(text)[:3]}
    assert found == {"cup": [[0, 3, 6]], "dog": [[2]], "cat": [[2]]}
    assert find_mentions(text)[3].places == []


@pytest.mark.parametrize(
    ("wordings", "kind"),
    [
        (DESCRIBE, "describe"),
        (LIST, "list"),
        (PRESENT, "present"),
        (HOW_MANY, "how many"),
        (WHERE, "where"),
        (WHAT_AT, "at"),
        (SCENE, "scene"),
    ],
)
def test_questions_are_understood(wordings, kind):
    for wording in wordings:
        question = wording.format(picture="photo", one="an apple", many="apples", name="apple", place="in the middle")
        assert read_question(question).kind == kind
        assert read_question(question.lower().rstrip("?.")).kind == kind
