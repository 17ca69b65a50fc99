"""Rates of hallucination from span corrections: what counts as one, and of how many answers."""

import pytest

from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.verdicts import Verdict
from rlhfv.errors import NotFound
from rlhfv.evaluation import human_rates
from rlhfv.evaluation.human_rates import by_model, score, takes_words
from rlhfv.evaluation.score import Fault

TEXT = "There are two red cups on the left table."
BASE, ALIGNED = ModelIdentity("llava", "1"), ModelIdentity("llava", "1", "mine@2")


def verdict(*edits, question="What is there?", model=BASE, outcome="", text=TEXT, omission=False, people=1):
    answer = Answer("a", Prompt(question, ("x.png",)), text, model, Sampling(), "v", "now")
    return Verdict(answer, outcome or ("corrected" if edits else "faithful"), edits, omission, people)


def edit(word: str, replacement: str, kind: str) -> Edit:
    start = TEXT.index(word)
    return Edit(start, start + len(word), replacement, kind)


@pytest.mark.parametrize(
    ("word", "replacement", "takes"),
    [
        ("red", "blue", True),
        ("red ", "", True),
        ("two", "2", True),
        ("cups", "cups and saucers", False),  # only adds
        ("cups", "blue cups", False),
        ("red cups", "cups", True),
        ("left table", "table on the left", True),
        (".", "!", False),  # punctuation
        (" ", " shiny ", False),
    ],
)
def test_taking_words_away_is_a_hallucination_and_adding_some_is_not(word, replacement, takes):
    assert takes_words(TEXT, edit(word, replacement, "object")) is takes


def test_an_insertion_only_mends_an_omission():
    assert not takes_words(TEXT, Edit(5, 5, " surely", "other"))


def test_rates_by_kind_by_hand():
    verdicts = [
        verdict(edit("red", "blue", "attribute"), edit("two", "three", "number"), question="1"),
        verdict(edit("cups", "mugs", "object"), edit("table", "desk", "object"), question="2"),
        verdict(edit("left", "right", "position"), question="3"),
        verdict(Edit(0, 0, "Indeed. ", "other"), question="4"),
        verdict(question="5", omission=True, people=2),
        verdict(question="6", outcome="skipped"),
        verdict(edit("cups", "mugs", "object"), question="7", model=ALIGNED),
    ]
    found = score(verdicts, str(BASE))
    assert found.figures() == {
        "any": 60.0,
        "object": 20.0,
        "position": 20.0,
        "number": 20.0,
        "attribute": 20.0,
        "action": 0.0,
        "other": 0.0,
        "paper_other": 20.0,
        "spans": 1.0,
        "words": 9.0,
    }
    assert list(found.wrong) == [True, True, True, False, False]
    assert found.faults[0] == (Fault(10, 13, "number"), Fault(14, 17, "attribute"))
    assert found.faults[3] == found.faults[4] == ()
    notes = " ".join(found.notes)
    assert "Of 5 answers that a person judged, 4 were corrected and 1 found faithful." in notes
    assert "1 more were skipped" in notes and "In 1 of the corrected ones words were only added" in notes
    assert "1 were marked as leaving something out" in notes and "1 were judged by more than one person" in notes
    assert notes.startswith(f"Answers of {BASE}.")
    assert found.variant == score(verdicts, str(ALIGNED)).variant, "two models are compared in one variant"


def test_two_models_meet_by_prompt_and_further_answers_have_ids_of_their_own():
    verdicts = [
        verdict(edit("red", "blue", "attribute"), question="1"),
        verdict(question="1"),
        verdict(question="2"),
        verdict(question="1", model=ALIGNED),
        verdict(question="2", model=ALIGNED, text="Two cups."),
    ]
    before, after = score(verdicts, str(BASE)), score(verdicts, str(ALIGNED))
    assert set(after.ids) == {before.ids[0], before.ids[2]} and before.ids[1] == f"{before.ids[0]}-2"
    assert list(by_model(verdicts)) == [str(BASE), str(ALIGNED)]
    items = human_rates.read_items(verdicts, str(BASE))
    assert [item.id for item in items] == list(before.ids) and items[2].question == "2" and items[0].image == "x.png"
    assert human_rates.answers(verdicts, str(ALIGNED))[after.ids[1]] == "Two cups."


def test_a_model_that_nobody_judged_has_no_rates():
    with pytest.raises(NotFound, match="was judged"):
        score([verdict(outcome="skipped")], str(BASE))
    with pytest.raises(NotFound):
        score([verdict()], str(ALIGNED))
