"""Judgements and the pairs that follow from them."""

from dataclasses import replace

import pytest

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.pairs import pair_id
from rlhfv.errors import InvalidCorrection, NotFound, StudioError


def test_saving_again_adds_a_revision_under_the_same_id(saved, make_answer):
    store, pair = saved
    assert pair.id == pair_id(("answer-1",), "ann")
    assert pair.revision == 2
    assert store.pair(pair.id) == pair
    assert [(r.number, r.action, r.annotator, r.pair.chosen) for r in store.history(pair.id)] == [
        (1, "saved", "ann", "There is a red spoon on the table."),
        (2, "saved", "ann", "There is a spoon on the table."),
    ]
    assert store.find_pairs().total == 1
    assert [judgement.id for judgement in store.judgements()] == ["j2", "j1"]


def test_another_annotator_makes_another_pair(saved, make_answer, make_pair, make_judgement):
    store, pair = saved
    other = store.save(make_judgement("j3", "answer-1", annotator="bob"), make_pair(make_answer(), "No.", "bob")).pair
    assert other.id != pair.id and other.revision == 1
    assert store.find_pairs().pairs == (other, pair)
    assert [judgement.id for judgement in store.judgements("answer-1")] == ["j3", "j2", "j1"]
    assert store.judgements("unknown") == []


def test_the_same_judgement_sent_twice_is_kept_once(saved, make_answer, make_pair, make_judgement):
    store, pair = saved
    again = store.save(
        make_judgement("j1", "answer-1"), make_pair(make_answer(), "There is a red spoon on the table.")
    )
    assert again.number == 1
    assert store.pair(pair.id) == pair
    assert len(store.judgements()) == 2
    with pytest.raises(InvalidCorrection):
        store.save(make_judgement("j1", "answer-1", active_seconds=9.0), make_pair(make_answer(), "No."))


def test_a_preferred_pair_needs_both_stored_answers(store, make_answer, make_pair, make_judgement):
    one, two = make_answer("one"), make_answer("two", "There is a spoon.")
    store.add_answer(one)
    store.add_answer(two)
    pair = make_pair(one, two.text, outcome="preferred", edits=())
    saved = store.save(make_judgement("j", "two", "one", outcome="preferred"), pair).pair
    assert (saved.chosen, saved.rejected) == (two.text, one.text)
    with pytest.raises(InvalidCorrection):
        store.save(make_judgement("k", "one", "two", outcome="preferred"), pair)
    store.save(make_judgement("l", "one", "two", outcome="tie"))
    with pytest.raises(NotFound):
        store.pair(saved.id)
    assert store.uncorrected("visitor-1") == ["one", "two"]


@pytest.mark.parametrize("outcome", ["faithful", "skipped"])
def test_nothing_wrong_takes_the_own_correction_back_and_a_skip_does_not(saved, make_judgement, outcome):
    store, pair = saved
    revision = store.save(make_judgement("j3", "answer-1", outcome=outcome))
    store.save(make_judgement("j4", "answer-1", outcome=outcome, annotator="bob"))
    if outcome == "faithful":
        assert revision.action == "deleted"
        assert store.find_pairs().total == 0
        assert store.restore(pair.id, 2, "ann").pair.chosen == pair.chosen
        store.save(make_judgement("j3", "answer-1", outcome=outcome))  # sent a second time, late
    else:
        assert revision.action == "judged" and revision.pair is None
    assert store.find_pairs().total == 1


def test_what_is_not_about_the_stored_answer_is_refused(saved, make_answer, make_pair, make_judgement):
    store, pair = saved
    answer = make_answer()
    forged = [
        (make_judgement("j", "unknown"), make_pair(answer, "No.")),
        (make_judgement("j", answer.id), make_pair(replace(answer, text="There is a dog."), "No.")),
        (make_judgement("j", answer.id), make_pair(replace(answer, prompt=Prompt("Who?")), "No.")),
        (make_judgement("j", answer.id), make_pair(answer, "No.", edits=())),
        (make_judgement("j", answer.id), replace(make_pair(answer, "No."), chosen="Yes.")),
        (make_judgement("j", answer.id), make_pair(answer, "No.", outcome="preferred", edits=())),
        (make_judgement("j", answer.id), None),
        (make_judgement("j", answer.id, outcome="faithful"), make_pair(answer, "No.")),
        (make_judgement("j", answer.id, outcome="great"), None),
    ]
    for judgement, wrong in forged:
        with pytest.raises(StudioError):
            store.save(judgement, wrong)
    assert store.find_pairs().pairs == (pair,)
    assert len(store.judgements()) == 2


def test_all_pairs_come_oldest_first(store, make_answer, make_pair, monkeypatch):
    monkeypatch.setattr("rlhfv.corrections.store.CHUNK", 3)
    pairs = [make_pair(make_answer(f"p{index}"), f"No {index}.") for index in range(8)]
    assert store.add_pairs(iter(pairs), "v1") == 8
    assert [pair.id for pair in store.all_pairs()] == [f"p{index}" for index in range(8)]
    store.delete("p3", "ann")
    assert [pair.id for pair in store.all_pairs("v1")] == [f"p{index}" for index in range(8) if index != 3]
    assert list(store.all_pairs("v2")) == []
    assert store.find_pairs(visitor="v1").total == 7


def test_pairs_from_elsewhere_are_added_once(store, make_answer, make_pair):
    pairs = [make_pair(make_answer(f"p{index}"), f"No {index}.") for index in range(3)]
    assert store.add_pairs(pairs) == 3
    assert store.add_pairs(pairs) == 0
    assert store.add_pairs([make_pair(make_answer("p1"), "Nothing.")]) == 1
    assert store.pair("p1").revision == 2
    store.delete("p2", "ann")
    assert store.add_pairs(pairs[2:]) == 1
    with pytest.raises(InvalidCorrection):
        store.add_pairs([replace(pairs[0], id="../x")])
