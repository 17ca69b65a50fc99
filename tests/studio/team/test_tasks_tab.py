"""Work comes in, answers are written in advance and the queue is set, through the events of the page."""

import io
import json
import threading
import zipfile
from pathlib import Path

import gradio as gr
import pytest

from rlhfv.corrections.edits import Edit
from rlhfv.services.queue import Item
from rlhfv.services.terms import Terms
from tests.studio.conftest import texts


@pytest.fixture
def upload(tmp_path, picture):
    def upload(name: str, data: bytes = picture) -> str:
        file = tmp_path / "uploads" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
        return str(file)

    return upload


@pytest.fixture
def taken_in(page, upload, olga):
    """One picture that is asked two questions."""
    return page.fire(
        "tasks-upload", "upload", olga, [upload("a.png")], "What is there?\n\n How many? \n", " one ", "any"
    )


def test_each_picture_is_asked_every_question(services, olga, taken_in):
    assert "2 tasks added." in texts(taken_in[-1]["tasks-came"])
    tasks = services.queue.tasks(olga)
    assert [(task.prompt.question, task.batch) for task in tasks] == [("What is there?", "one"), ("How many?", "one")]
    assert "2 wait for an answer" in texts(taken_in[-1]["tasks-status"])
    assert "What is there?" in texts(taken_in[-1]["tasks-list"])


def test_uploads_do_not_stay_and_the_same_work_never_comes_twice(page, services, olga, upload, taken_in):
    again = upload("b.png")
    shown = page.fire("tasks-upload", "upload", olga, [again], "What is there?\nWhere?", "", "any")[-1]
    assert "1 task added, 1 here already" in texts(shown["tasks-came"])
    assert len(services.queue.tasks(olga)) == 3
    assert not Path(again).exists()


def test_rows_with_answers_and_a_broken_one(page, services, olga, upload, picture):
    rows = [
        {"image": "a.png", "question": "What is there?", "answer": "A cat.", "model": "gpt"},
        {"image": "missing.png", "question": "What is there?"},
    ]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("work/rows.jsonl", "\n".join(map(json.dumps, rows)))
        archive.writestr("work/a.png", picture)
    shown = page.fire("tasks-upload", "upload", olga, [upload("work.zip", packed.getvalue())], "", "", "any")[-1]
    assert "1 task added, 1 left out." in texts(shown["tasks-came"]) and "missing.png" in texts(shown["tasks-came"])
    item = services.queue.next_item(olga)
    assert isinstance(item, Item) and (item.original, item.model) == ("A cat.", "gpt@unknown")


def test_pictures_without_a_question_are_refused_in_three_parts(page, olga, upload):
    told = texts(page.fire("tasks-upload", "upload", olga, [upload("a.png")], " ", "", "any")[-1]["tasks-came"])
    assert "came without a question" in told and "Give at least one" in told


def test_answers_in_advance_and_then_there_is_work(page, services, olga, taken_in):
    shown = page.fire("tasks-write", "click", olga, "", 0, "any")
    while shown["tasks-stop"]["visible"]:
        shown = page.fire("tasks-due", "input", olga, "any")
    assert "2 answers written." in texts(shown["tasks-written"])
    assert "2 wait for a judgement" in texts(shown["tasks-status"])
    assert services.queue.next_item(olga).original == "baseline says: What is there?"
    again = page.fire("tasks-write", "click", olga, "", 0, "any")
    assert "No task waits for an answer." in texts(again["tasks-written"])


def test_writing_is_stopped_and_goes_on(page, services, olga, taken_in, monkeypatch):
    begun = threading.Event()

    def slow(prompts, voice, sampling, image_path, batch_size, stop=None):
        begun.set()
        assert stop.wait(10)
        return [""] * len(prompts)

    monkeypatch.setattr(services.host._model, "answer_many", slow)
    shown = page.fire("tasks-write", "click", olga, "", 0, "any")
    assert begun.wait(10) and shown["tasks-stop"]["visible"] and not shown["tasks-write"]["interactive"]
    refused = page.fire("tasks-write", "click", olga, "", 0, "any")
    assert "at work here already" in texts(refused["tasks-written"])
    stopped = page.fire("tasks-stop", "click", olga, "any")
    assert not stopped["tasks-stop"]["visible"] and "2 tasks left" in texts(stopped["tasks-written"])
    monkeypatch.undo()
    assert len(services.queue.unanswered(olga)) == 2, "what was on its way when it was stopped is not kept"


def test_the_queue_is_set_and_refuses_what_is_out_of_bounds(page, services, olga, ann):
    saved = page.fire("queue-save", "click", olga, 0.5, 0.2, 45, "Only what is wrong.")
    assert "Saved" in texts(saved)
    kept = services.queue.settings(olga)
    assert (kept.second_share, kept.gold_share, kept.reserve_minutes) == (0.5, 0.2, 45)
    assert page.fire("tab-tasks", "select", olga, "any")["queue-guideline"] == "Only what is wrong."
    assert "reserve_minutes is 0" in texts(page.fire("queue-save", "click", olga, 0.5, 0.2, 0, ""))
    assert services.queue.settings(olga) == kept
    assert "does not have it" in texts(page.fire("queue-save", "click", ann, 1, 1, 1, "mine"))


def test_the_list_is_filtered_and_turned(page, services, olga, upload):
    questions = "\n".join(f"Question {number}?" for number in range(25))
    page.fire("tasks-upload", "upload", olga, [upload("a.png")], questions, "", "any")
    shown = page.fire("tasks-due", "input", olga, "answer")
    assert "1–20 of 25" in texts(shown["tasks-pager"])
    turned = page.fire("tasks-pager", "select", olga, "answer", data={"act": "turn", "ref": "20"})
    assert "Question 24?" in texts(turned["tasks-list"]) and "Question 3?" not in texts(turned["tasks-list"])
    assert "None of that kind" in texts(page.fire("tasks-due", "input", olga, "first")["tasks-list"])


def correct_all(services, who, *edits: Edit) -> None:
    services.corrections.set_terms(who, Terms(consent=True))
    while isinstance(item := services.queue.next_item(who), Item):
        services.corrections.save(who, item.answer_id, item.original, edits)


def test_agreement_and_gold_are_for_the_owner(page, services, olga, ann, bo, ray, upload):
    services.queue.change_settings(olga, second_share=1.0, gold_share=1.0)
    blue, green = Edit(2, 5, "blue", "attribute"), Edit(2, 5, "green", "attribute")
    row = {"image": "a.png", "question": "What is there?", "answer": "A red cup."}
    gold = row | {"question": "And now?", "gold": [vars(blue)]}
    rows = upload("rows.jsonl", "\n".join(map(json.dumps, [row, gold])).encode())
    page.fire("tasks-upload", "upload", olga, [rows, upload("a.png")], "", "", "any")
    told = texts(page.fire("tab-tasks", "select", olga, "any")["tasks-quality"])
    assert "as soon as two people" in told and "nobody came across one yet" in told
    correct_all(services, ann, blue)
    correct_all(services, bo, green)
    told = texts(page.fire("tab-tasks", "select", olga, "any")["tasks-quality"])
    assert "Over 1 answer that two people judged" in told and "Ann" in told and "Bo" in told and "1.00" in told
    for other in (ann, ray):
        shown = page.fire("tab-tasks", "select", other, "any")
        assert not shown["tasks"]["visible"] and "up to the owner" in texts(shown["tasks-refused"])
        assert "tasks-quality" not in shown


def test_forged_events_of_others_change_nothing(page, services, ann, upload):
    told = texts(page.fire("tasks-upload", "upload", ann, [upload("a.png")], "What?", "", "any")[-1]["tasks-came"])
    assert "the right 'manage'" in told and services.queue.status(ann).counts.total == 0
    for elem_id, values in (("tasks-write", ("", 0, "any")), ("tasks-stop", ("any",))):
        with pytest.raises(gr.Error, match="does not have it"):
            page.fire(elem_id, "click", ann, *values)
