"""What counts of each answer that was judged."""

from dataclasses import replace

import pytest

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.reviews import Person
from rlhfv.corrections.store import Store
from rlhfv.corrections.tasks import NewTask

TEXT = "There is a red fork on the table."


@pytest.fixture
def judge(store, make_answer, make_pair, make_judgement):
    numbers = iter(range(1000))

    def judge(id, *edits, outcome="corrected", annotator="ann", store=store, visitor="", **fields):
        try:
            answer = store.answer(id)
        except Exception:
            answer = make_answer(id, TEXT)
            store.add_answer(answer)
        pair = None
        if outcome == "corrected":
            pair = replace(make_pair(answer, "x", annotator), edits=edits)
            pair = replace(pair, chosen=pair.corrected_answer.corrected)
        judgement = make_judgement(f"j{next(numbers)}", id, outcome=outcome, annotator=annotator, **fields)
        return store.save(judgement, pair, visitor).pair

    return judge


RED = Edit(11, 14, "blue", "attribute")
FORK = Edit(15, 19, "spoon", "object")


def found(store, **fields):
    return [(one.answer.id, one.outcome, one.edits, one.people) for one in store.verdicts(**fields)]


def test_each_answer_has_one_verdict_in_the_order_of_the_answers(store, judge, make_pair, make_answer):
    judge("a1", RED, FORK)
    judge("a2", outcome="faithful", flags=("omission",))
    judge("a3", outcome="skipped", reason="no idea")
    store.add_answer(make_answer("a4", TEXT))
    store.add_pairs([make_pair(make_answer("import"), "No.")])
    assert found(store) == [
        ("a1", "corrected", (RED, FORK), 1),
        ("a2", "faithful", (), 1),
        ("a3", "skipped", (), 0),
    ]
    assert [one.omission for one in store.verdicts()] == [False, True, False]


def test_the_last_word_counts_and_of_several_people_the_newest(store, judge):
    judge("a1", RED)
    judge("a1", outcome="faithful")
    judge("a2", outcome="faithful")
    judge("a2", FORK)
    judge("a3", RED)
    judge("a3", FORK, annotator="bob")
    judge("a4", RED)
    judge("a4", outcome="skipped", annotator="bob")
    assert found(store) == [
        ("a1", "faithful", (), 1),
        ("a2", "corrected", (FORK,), 1),
        ("a3", "corrected", (FORK,), 2),
        ("a4", "corrected", (RED,), 1),
    ]


def test_a_correction_counts_as_it_reads_now_and_not_once_it_is_gone(store, judge):
    judge("a1", RED)
    pair = judge("a2", RED)
    store.delete(pair.id, "ann")
    judge("a1", RED, FORK)
    assert found(store) == [("a1", "corrected", (RED, FORK), 1)]
    store.undo(store.pair_of_answer("a1").id, "ann")
    assert found(store) == [("a1", "corrected", (RED,), 1)]


def test_votes_between_two_answers_say_nothing_of_what_is_wrong_in_them(store, make_answer, make_judgement):
    for id in ("a1", "a2"):
        store.add_answer(make_answer(id, TEXT + id))
    store.save(make_judgement("j", "a1", "a2", outcome="tie"))
    assert found(store) == []


def test_gold_items_and_superseded_corrections_are_left_out(tmp_path, judge, make_answer):
    store = Store(tmp_path / "team.db", team=True)
    gold, work = (
        NewTask(prompt, answer=make_answer(id, TEXT, prompt=prompt), gold=known)
        for id, known, prompt in (("gold", (), Prompt("g?")), ("work", None, Prompt("w?")))
    )
    store.add_tasks([gold, work])
    judge("gold", RED, store=store, visitor="ann")
    first = judge("work", RED, store=store, visitor="ann")
    second = judge("work", FORK, store=store, visitor="bob", annotator="bob")
    assert found(store) == [("work", "corrected", (FORK,), 2)]
    assert found(store, visitor="ann") == [("work", "corrected", (RED,), 1)]
    store.adjudicate(first.id, second.id, Person("ray", "Ray"))
    assert found(store) == [("work", "corrected", (RED,), 1)]
    assert found(store, visitor="bob") == []
