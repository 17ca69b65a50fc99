import json

import pytest
from PIL import Image

from rlhfv.corrections.conversation import ModelIdentity, Turn
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.task_files import read_tasks
from rlhfv.errors import InvalidData


@pytest.fixture
def folder(tmp_path, encode):
    """Two pictures, one in a folder of its own, and a text file."""
    folder = tmp_path / "in"
    (folder / "more").mkdir(parents=True)
    for name, colour in (("b.png", "red"), ("more/a.JPG", "blue")):
        (folder / name).write_bytes(encode(Image.new("RGB", (20, 10), colour), "JPEG" if "JPG" in name else "PNG"))
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def read(folder, shelf):
    def read(*rows, **named):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / "tasks.jsonl").write_text("\n".join(lines))
        found = list(read_tasks(named.pop("path", folder), shelf, **named))
        return (
            [each for each in found if not isinstance(each, RowProblem)],
            [each for each in found if isinstance(each, RowProblem)],
        )

    return read


def test_a_folder_of_pictures_is_asked_every_question(folder, shelf):
    (folder / "broken.png").write_bytes(b"not a picture")
    found = list(read_tasks(folder, shelf, ("What?", "How many?"), "monday"))
    tasks = [each for each in found if not isinstance(each, RowProblem)]
    assert [(task.row, task.prompt.question) for task in tasks] == [
        *((1, "What?"), (1, "How many?"), (3, "What?"), (3, "How many?"))
    ]
    assert len({task.prompt.images for task in tasks}) == 2 and {task.batch for task in tasks} == {"monday"}
    assert all(shelf.path(name).is_file() for task in tasks for name in task.prompt.images)
    [problem] = [each for each in found if isinstance(each, RowProblem)]
    assert problem.row == 2 and "broken.png" in problem.what
    with pytest.raises(InvalidData, match="question"):
        list(read_tasks(folder, shelf))
    (folder / "empty").mkdir()
    with pytest.raises(InvalidData, match="no picture"):
        list(read_tasks(folder / "empty", shelf, ("What?",)))


def test_rows_become_tasks_with_their_answers(read, shelf):
    answered = {
        "images": ["b.png"],
        "image": "more/a.JPG",
        "question": "What?",
        "history": [{"question": "Before?", "answer": "Yes."}],
        "answer": "A red 🐕 dog.",
        "model": {"name": "llava", "revision": "abc"},
        "gold": [{"start": 6, "end": 7, "text": "🐕", "replacement": "🐈", "kind": "object"}],
        "source": "camera 7",
    }
    tasks, problems = read({"image": "b.png", "question": "Who?"}, "", answered, batch="two")
    assert problems == [] and [task.row for task in tasks] == [1, 3]
    plain, gold = tasks
    assert plain.answer is None and plain.gold is None and plain.batch == "two"
    assert len(gold.prompt.images) == 2 and gold.prompt.history == (Turn("Before?", "Yes."),)
    assert gold.answer.text == "A red 🐕 dog." and gold.answer.prompt == gold.prompt
    assert gold.answer.model == ModelIdentity("llava", "abc") and gold.source == "camera 7"
    assert gold.gold == (Edit(6, 7, "🐈", "object"),)
    stored = plain.prompt.images[0]
    assert read({"image": stored, "question": "Who?", "answer": "", "model": "x"})[0][0].prompt.images == (stored,)


def test_rows_without_a_question_are_asked_all(read):
    tasks, _ = read({"image": "b.png"}, {"image": "b.png", "question": "Own?"}, questions=("One?", "Two?"))
    assert [task.prompt.question for task in tasks] == ["One?", "Two?", "Own?"]


GOOD = {"image": "b.png", "question": "Q?", "answer": "A dog."}


@pytest.mark.parametrize(
    "row",
    [
        "no json",
        "[1]",
        {"question": "Q?"},
        {"image": "b.png"},
        {"image": "b.png", "question": " "},
        {"image": "missing.png", "question": "Q?"},
        {"image": "../in/../../secret.png", "question": "Q?"},
        {"image": "/etc/passwd", "question": "Q?"},
        {"image": "a\0b", "question": "Q?"},
        {"image": "notes.txt", "question": "Q?"},
        {"image": ["b.png"], "question": "Q?"},
        {"images": [7], "question": "Q?"},
        {"images": "b.png", "question": "Q?"},
        GOOD | {"question": 7},
        GOOD | {"answer": ["A dog."]},
        GOOD | {"answer": "\ud800"},
        GOOD | {"model": 7},
        GOOD | {"model": {"name": 7}},
        GOOD | {"history": ["Before?"]},
        GOOD | {"history": [{"question": "Before?", "answer": "Yes.", "images": ["b.png"]}]},
        GOOD | {"gold": "none"},
        GOOD | {"gold": [{"start": 2, "end": 5, "text": "cat", "replacement": "x", "kind": "object"}]},
        GOOD | {"gold": [{"start": 0, "end": 99, "replacement": "x", "kind": "object"}]},
        {"image": "b.png", "question": "Q?", "gold": []},
    ],
)
def test_each_broken_row_has_its_message_and_loses_nothing_else(read, row):
    tasks, problems = read(GOOD, row, GOOD | {"question": "Other?"})
    assert [task.row for task in tasks] == [1, 3]
    [problem] = problems
    assert problem.row == 2 and problem.what and problem.why and problem.fix and len(str(problem)) < 600


def test_a_file_that_is_not_there_is_told(tmp_path, shelf):
    with pytest.raises(InvalidData, match="could not be read"):
        list(read_tasks(tmp_path / "none.jsonl", shelf))
