"""`chat`: one question, or a conversation line by line; what is refused costs nothing."""

import io
import json
import os
import signal
import sys
import threading
import time

import pytest


def test_one_question(say, scripted, picture):
    code, out, _ = say("chat", "What is there?", "--image", picture)
    assert code == 0 and out.count("baseline says: What is there? #0") == 2
    code, out, _ = say("chat", "And now?", "--json")
    said = json.loads(out)
    assert said["left"]["text"] == "baseline says: And now? #1" and said["left"]["answer_id"], (
        "the conversation goes on"
    )


def test_a_conversation_line_by_line(say, scripted, picture, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("First?\nSecond?\n\nnever asked\n"))
    code, out, _ = say("chat", "--image", picture, "--json")
    questions = [json.loads(line)["question"] for line in out.splitlines()]
    assert code == 0 and questions == ["First?", "Second?"]


def test_chat_says_what_is_missing(say, scripted, tmp_path, picture):
    code, _, err = say("chat", "Hello?")
    assert code == 2 and "no picture yet" in err
    code, _, err = say("chat", "Hello?", "--image", tmp_path / "none.png")
    assert code == 2 and "cannot be read" in err
    code, _, err = say("chat", "Hello?", "--image", picture, "--left", "nobody")
    assert code == 2 and "'Baseline'" in err
    code, _, err = say("chat", "Hello?", "--scene")
    assert code == 2 and "world" in err


def test_what_is_refused_costs_no_conversation(say, scripted, tmp_path, picture):
    (tmp_path / "broken.png").write_bytes(picture.read_bytes()[:40])
    assert say("chat", "What is there?", "--image", picture)[0] == 0
    for refused in (["--image", tmp_path / "broken.png"], ["--scene"], ["--image", picture, "--seed", "-1"]):
        assert say("chat", "Hello?", *refused)[0] == 2
    assert json.loads(say("chat", "And now?", "--json")[1])["left"]["text"].endswith("#1")


def test_an_empty_question_is_refused(say, scripted, picture):
    assert say("chat", "What is there?", "--image", picture)[0] == 0
    for empty in ("", "  "):
        code, out, err = say("chat", empty)
        assert code == 2 and out == "" and err.startswith("Error: The question is empty.")


def test_a_conversation_with_a_refused_question_has_its_code(say, scripted, picture, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{'x' * 5000}\nSecond?\n"))
    code, out, err = say("chat", "--image", picture, "--json")
    assert code == 2 and len(out.splitlines()) == 1 and "Error: The question has 5,000 characters." in err


def interrupt_after(*delays):
    for delay in delays:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_an_interrupt_keeps_what_was_said(say, scripted, picture):
    scripted.delay = 0.05
    interrupt_after(1.0)
    code, out, _ = say("chat", "word " * 200, "--image", picture, "--json")
    said = json.loads(out)["left"]
    assert code == 130 and not said["finished"] and 0 < len(said["text"]) < 1000
    scripted.delay = 0
    assert json.loads(say("chat", "And now?", "--json")[1])["left"]["text"].endswith("#1"), "it was kept as a turn"


def test_a_second_interrupt_does_not_wait(say, scripted, picture, monkeypatch):
    def never_ends(*_):
        while True:
            time.sleep(0.05)
            yield ("a", "b")

    monkeypatch.setattr(scripted, "answer_both", never_ends)
    interrupt_after(1.0, 1.3)
    assert say("chat", "Hello?", "--image", picture)[0] == 130
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
