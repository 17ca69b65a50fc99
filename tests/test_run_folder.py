"""A run folder appears whole, verifies what it holds, and outlives writers that die in mid-line."""

import json
import multiprocessing
import os
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfv.errors import InvalidData, NotFound, RunFailed
from rlhfv.run_folder import RunFolder, row_images

PICTURE = b"not really a picture"
NAME = sha256(PICTURE).hexdigest() + ".png"
CONFIG = {"kind": "training", "title": "first run", "base": {"name": "demo", "revision": "r", "source": "demo"}}


def row(row_id="a", images=(NAME,), **fields):
    return {"id": row_id, "images": list(images), "question": "What is there?", "rejected": "A 🐶.", **fields}


@pytest.fixture
def shelf(tmp_path):
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / NAME).write_bytes(PICTURE)
    return lambda name: folder / name


@pytest.fixture
def run(tmp_path, shelf):
    folder = RunFolder(tmp_path / "runs" / "run-1")
    folder.create(CONFIG, [row()], shelf)
    return folder


def test_what_was_frozen_is_read_back(run):
    assert run.read_config() == {"v": 1, **CONFIG}
    assert run.read_rows() == [row()]
    assert run.image_path(NAME).read_bytes() == PICTURE
    assert run.read_events() == ([], 0)
    assert run.read_results() is None and run.read_log() == [] and run.list_checkpoints() == []
    assert [entry.name for entry in run.path.parent.iterdir()] == ["run-1"], "no building folder is left"


def test_a_run_is_frozen_once(run, shelf):
    with pytest.raises(RunFailed, match="exists already"):
        RunFolder(run.path).create(CONFIG, [], shelf)


def test_a_bad_row_leaves_nothing_behind(tmp_path, shelf):
    folder = RunFolder(tmp_path / "runs" / "run-1")
    with pytest.raises(InvalidData, match="Row 2"):
        folder.create(CONFIG, [row("a"), row("a")], shelf)
    assert list(folder.path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "bad",
    [
        "no object",
        {"images": []},
        {"id": "", "images": []},
        {"id": 3},
        row(images=["../secret.png"]),
        row(images=["/etc/passwd"]),
        row(images=[".hidden"]),
        row(images=["a\\b.png"]),
        row(images=["a\n.png"]),
        row(images=[7]),
        row(history=[{"images": ["../x"]}]),
        row(history=["text"]),
        {"id": "a", "images": 7},
    ],
)
def test_bad_rows_are_refused_by_number(tmp_path, shelf, bad):
    with pytest.raises(InvalidData, match="Row 1"):
        RunFolder(tmp_path / "run").create(CONFIG, [bad], shelf)


@pytest.mark.parametrize("name", ["../config.json", "..", ".", "", "a/b", "x" * 300, None])
def test_no_picture_name_reaches_outside(run, name):
    with pytest.raises(InvalidData):
        run.image_path(name)


def test_a_missing_picture_is_left_to_the_check(tmp_path, shelf):
    folder = RunFolder(tmp_path / "run")
    folder.create(CONFIG, [row(images=["gone.png"])], shelf)
    assert not folder.image_path("gone.png").exists()


def test_a_changed_picture_is_refused(tmp_path, shelf):
    shelf(NAME).write_bytes(b"other bytes")
    with pytest.raises(InvalidData, match="changed on disk"):
        RunFolder(tmp_path / "run").create(CONFIG, [row()], shelf)


def test_earlier_turns_bring_their_pictures(tmp_path, shelf):
    two_turns = row(images=[], history=[{"question": "q", "answer": "a", "images": [NAME]}])
    assert row_images(two_turns) == [NAME]
    folder = RunFolder(tmp_path / "run")
    folder.create(CONFIG, [two_turns], shelf)
    assert folder.image_path(NAME).exists()


def test_adapters_are_copied(tmp_path, shelf):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    folder = RunFolder(tmp_path / "run")
    folder.create(CONFIG, [], shelf, {"voice-1": adapter})
    assert (folder.adapter_path("voice-1") / "adapter_config.json").read_text() == "{}"


@pytest.mark.parametrize("secret", ["hf_" + "a1" * 17, __file__])
def test_no_token_and_no_path_of_the_machine(tmp_path, shelf, secret):
    with pytest.raises(InvalidData, match=r"base\.source"):
        RunFolder(tmp_path / "run").create({"base": {"source": secret}}, [], shelf)


def test_what_is_no_run_says_so(tmp_path):
    with pytest.raises(NotFound):
        RunFolder(tmp_path / "nothing").read_config()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InvalidData, match="damaged"):
        RunFolder(tmp_path).read_config()


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe", b"[1]"])
def test_damaged_rows_say_so(run, line):
    run.pairs_file.write_bytes(run.pairs_file.read_bytes() + line + b"\n")
    with pytest.raises(InvalidData, match=r"[Rr]ow 2|line 2"):
        run.read_rows()


def test_events_are_read_from_an_offset(run):
    run.append_event("state", state="starting")
    run.append_event("step", step=1, loss=0.69, **{"rewards/margins": float("nan")})
    events, offset = run.read_events()
    assert [event["kind"] for event in events] == ["state", "step"]
    assert events[1]["rewards/margins"] is None and events[1]["loss"] == 0.69
    assert run.read_events(offset) == ([], offset)
    run.append_event("done")
    assert [event["kind"] for event in run.read_events(offset)[0]] == ["done"]
    with pytest.raises(ValueError):
        run.append_event("unheard of")


def test_a_line_being_written_waits_and_a_torn_one_is_passed_over(run):
    run.append_event("step", step=1)
    with open(run.events_file, "ab") as file:
        file.write(b'{"v": 1, "kind": "st')
    events, offset = run.read_events()
    assert [event["step"] for event in events] == [1]
    run.append_event("step", step=2)
    assert [event["step"] for event in run.read_events(offset)[0]] == [2]
    assert [event["step"] for event in run.read_events()[0]] == [1, 2]


def append_many(path, writer):
    for step in range(200):
        RunFolder(path).append_event("step", step=step, writer=writer, text="ä🐶" * 50)


def test_four_processes_append_whole_lines(run):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=append_many, args=(run.path, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    events, _ = run.read_events()
    written = sorted((event["writer"], event["step"]) for event in events)
    assert written == [(writer, step) for writer in range(4) for step in range(200)]


def test_an_error_is_told_in_three_parts(run):
    run.append_error(RunFailed("a", "b", "c"))
    run.append_error(ZeroDivisionError("division by zero"))
    known, unknown = run.read_events()[0]
    assert (known["what"], known["why"], known["fix"]) == ("a", "b", "c")
    assert unknown["what"] == "ZeroDivisionError: division by zero" and unknown["fix"]


def test_one_process_works_on_a_run(run):
    assert not run.is_claimed()
    claim = run.claim()
    assert run.is_claimed()
    with pytest.raises(RunFailed, match="at work already"):
        run.claim()
    os.close(claim)
    assert not run.is_claimed()


def test_checkpoints_by_step(run):
    for name in ("checkpoint-9", "checkpoint-100", "checkpoint-20", "tmp-checkpoint-300", "other"):
        (run.checkpoints / name).mkdir(parents=True)
    assert [folder.name for folder in run.list_checkpoints()] == ["checkpoint-9", "checkpoint-20", "checkpoint-100"]


def test_results_are_replaced_whole(run):
    run.write_results({"a": 1})
    run.write_results({"a": float("inf")})
    assert run.read_results() == {"a": None}


def test_the_log_shows_a_progress_bar_once(run):
    run.log_file.write_text("one\n 10%\r 50%\r 90%\r\n\nlast 🐶\n")
    assert run.read_log() == ["one", " 90%", "last 🐶"]
    assert run.read_log(1) == ["last 🐶"]


@given(st.text(st.characters(), max_size=30))
def test_any_text_survives(tmp_path_factory, text):
    folder = RunFolder(tmp_path_factory.mktemp("any") / "run")
    folder.create({**CONFIG, "title": "t" + text}, [row(images=[], rejected=text)], lambda name: None)
    assert folder.read_rows()[0]["rejected"] == text
    assert folder.read_config()["title"] == "t" + text
    folder.append_event("log", text=text)
    assert folder.read_events()[0][0]["text"] == text
    assert json.loads(folder.events_file.read_bytes())["text"] == text
