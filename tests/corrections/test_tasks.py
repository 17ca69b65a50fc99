import sqlite3
from dataclasses import replace

import pytest

from rlhfv.corrections.conversation import Prompt, Turn, fingerprint
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.store import Store
from rlhfv.corrections.tasks import NewTask, share_of
from rlhfv.errors import InvalidData, NotFound, StudioError

IMAGE = "a" * 64 + ".png"


@pytest.fixture
def make_task(make_answer):
    def make(question="What is it?", text=None, id="answer-1", gold=None, **fields):
        prompt = Prompt(question, (IMAGE,))
        answer = None if text is None else make_answer(id, text, visitor="somebody", prompt=prompt)
        return NewTask(prompt, answer=answer, gold=gold, **fields)

    return make


def test_a_task_comes_in_waits_for_its_answer_and_then_for_a_judgement(store, make_task, make_answer):
    added = store.add_tasks([make_task(source="cam:7", batch="monday"), make_task("Who?", "A dog.")])
    [waiting, open] = [store.task(id) for id in added.ids]
    assert (waiting.due, waiting.answer_id, waiting.source, waiting.batch) == ("answer", "", "cam:7", "monday")
    assert waiting.prompt == Prompt("What is it?", (IMAGE,)) and waiting.gold is None
    assert (open.due, store.answer(open.answer_id).text) == ("first", "A dog.")
    assert store.answer(open.answer_id).visitor == ""
    assert [task.id for task in store.unanswered()] == [waiting.id]
    answer = make_answer("a9", "A cat.", visitor="x", prompt=waiting.prompt)
    assert store.attach_answers([(waiting.id, answer)]) == {waiting.id: "attached"}
    assert store.task(waiting.id).due == "first" and store.answer("a9").visitor == ""
    assert store.task_of_answer("a9").id == waiting.id
    assert store.unanswered() == []
    counts = store.count_tasks()
    assert (counts.total, counts.unanswered, counts.first, counts.done) == (2, 0, 2, 0)
    assert [task.id for task in store.tasks("first", offset=1)] == [open.id]
    assert store.tasks("") == [] and len(store.tasks()) == 2


def test_the_same_work_never_comes_in_twice(store, make_task, make_answer):
    first = store.add_tasks([make_task(), make_task("Who?", "A dog."), make_task("Who?", "A cat.", "answer-2")])
    assert len(first.ids) == 3
    again = store.add_tasks(
        [make_task(row=11), make_task("Who?", "A dog.", "other-id", row=12), make_task("New?"), make_task("New?")]
    )
    assert [(each.row, each.task_id) for each in again.duplicates[:2]] == [(11, first.ids[0]), (12, first.ids[1])]
    assert len(again.ids) == 1 and again.duplicates[2].row == 4 and again.duplicates[2].task_id == again.ids[0]
    with pytest.raises(NotFound):
        store.answer("other-id")
    # An answer that is written in advance and waits in another task already is not corrected twice either.
    prompt = make_task("Who?").prompt
    [late] = store.add_tasks([make_task("Who?")]).ids
    assert store.attach_answers([(late, make_answer("late", "A dog.", prompt=prompt))]) == {late: "duplicate"}
    assert store.task(late).answer_id == store.task(first.ids[1]).answer_id and store.task(late).due == ""
    assert store.task_of_answer(store.task(late).answer_id).id == first.ids[1]
    # And what was answered here comes in from elsewhere.
    store.attach_answers([(first.ids[0], make_answer("own", "A pen.", prompt=make_task().prompt))])
    assert store.add_tasks([make_task(text="A pen.", id="elsewhere")]).duplicates[0].task_id == first.ids[0]


def test_the_fingerprint_tells_everything_apart_that_makes_other_work():
    prompt = Prompt("What?", (IMAGE,), (Turn("Before?", "Yes."),))
    others = [
        fingerprint(prompt),
        fingerprint(prompt, ""),
        fingerprint(prompt, "A dog."),
        fingerprint(replace(prompt, question="What ?")),
        fingerprint(replace(prompt, images=("b" * 64 + ".png",))),
        fingerprint(replace(prompt, history=())),
        fingerprint(replace(prompt, history=(Turn("Before?", "No."),))),
        fingerprint(replace(prompt, history=(Turn("Before?", "Yes.", (IMAGE,)),))),
    ]
    assert len(set(others)) == len(others)
    assert fingerprint(prompt, "A dog.") == fingerprint(prompt, "A dog.")


def test_an_answer_is_attached_once_and_to_its_own_prompt(store, make_task, make_answer):
    [id] = store.add_tasks([make_task()]).ids
    with pytest.raises(InvalidData):
        store.attach_answers([(id, make_answer("x", "A cat.", prompt=Prompt("Other?")))])
    with pytest.raises(NotFound):
        store.attach_answers([("forged", make_answer("x", "A cat."))])
    prompt = make_task().prompt
    assert store.attach_answers([(id, make_answer("x", "A cat.", prompt=prompt))]) == {id: "attached"}
    assert store.attach_answers([(id, make_answer("y", "A dog.", prompt=prompt))]) == {id: "answered"}
    assert store.task(id).answer_id == "x"
    with pytest.raises(NotFound):
        store.answer("y")


def test_a_batch_of_answers_is_kept_as_a_whole_or_not_at_all(store, make_task, make_answer):
    ids = store.add_tasks([make_task(f"{index}?") for index in range(3)]).ids
    answers = [(id, make_answer(id, "A cat.", prompt=store.task(id).prompt)) for id in ids]
    with pytest.raises(NotFound):
        store.attach_answers([*answers[:2], ("forged", answers[2][1])])
    assert len(store.unanswered()) == 3
    assert set(store.attach_answers(answers).values()) == {"attached"}
    assert store.count_tasks().unanswered == 0


def test_gold_items_keep_their_known_edits_and_are_never_due(store, make_task):
    gold = (Edit(2, 5, "cat", "object"),)
    [id, clean] = store.add_tasks(
        [make_task(text="A dog.", gold=gold), make_task("Who?", "A dog.", "answer-2", gold=())]
    ).ids
    assert store.task(id).gold == gold and store.task(id).due == ""
    assert store.task(clean).gold == ()
    assert store.tasks() == [] and [task.id for task in store.gold_tasks()] == [id, clean]
    counts = store.count_tasks()
    assert (counts.total, counts.gold, counts.first) == (0, 2, 0)


def test_what_cannot_be_worked_on_is_refused(store, make_task):
    wrong = [
        make_task(" "),
        make_task("x" * 30_000),
        NewTask(Prompt("What?", ("../../etc/passwd",))),
        make_task(text="\ud800"),
        make_task(gold=()),
        make_task(text="A dog.", gold=(Edit(0, 99, "x", "object"),)),
        make_task(text="A dog.", gold=(Edit(0, 1, "x", "forged"),)),
        replace(make_task(text="A dog."), prompt=Prompt("Another?")),
    ]
    for task in wrong:
        with pytest.raises(StudioError) as caught:
            store.add_tasks([task])
        assert len(str(caught.value)) < 1000
    assert store.tasks() == []
    for id in ("", "forged", None, "\ud800", 7):
        with pytest.raises(NotFound):
            store.task(id)
        assert store.task_of_answer(id) is None


def test_lots_are_drawn_once_for_all():
    assert share_of("second", "x") == share_of("second", "x") != share_of("second", "y")
    assert share_of("gold", "ann", 1) != share_of("gold", "ann", 2)
    drawn = [share_of("second", index) for index in range(2000)]
    assert all(0 <= value < 1 for value in drawn)
    assert 0.07 < sum(value < 0.1 for value in drawn) / 2000 < 0.13


def test_a_thousand_tasks_come_in_by_chunks(store, make_task, monkeypatch):
    monkeypatch.setattr("rlhfv.corrections.tasks.CHUNK", 7)
    added = store.add_tasks(make_task(f"{index % 20}?") for index in range(50))
    assert len(added.ids) == 20 and len(added.duplicates) == 30
    assert [task.prompt.question for task in store.unanswered(3, after=added.ids[4])] == ["5?", "6?", "7?"]
    with sqlite3.connect(Store(store.path).path) as connection:
        assert connection.execute("SELECT count(DISTINCT fingerprint) FROM tasks").fetchone() == (20,)
