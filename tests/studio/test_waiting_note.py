"""What stands above the question box while others are answered first."""

import threading
from dataclasses import replace

import pytest

from rlhfv.services import Actor
from rlhfv.services.chat_state import ChatState
from rlhfv.services.limits import Limits
from rlhfv.studio.waiting import LOADING, ordinal, waiting_note
from tests.services.fakes import load_instead
from tests.studio.conftest import texts

STRANGER = frozenset({"chat", "correct", "train"})
IDLE = ChatState("c", "", "")


@pytest.mark.parametrize(
    ("number", "told"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (13, "13th"), (21, "21st")],
)
def test_places_are_told_as_people_say_them(number, told):
    assert ordinal(number) == told


def test_the_note_says_place_and_time():
    assert texts(waiting_note(replace(IDLE, place=3, wait_seconds=20), False)) == "You are 3rd; about 20 s"
    assert texts(waiting_note(replace(IDLE, place=3), True)) == "You are 3rd"
    assert texts(waiting_note(replace(IDLE, place=50, wait_seconds=150), False)) == "You are 50th; about 2 min"
    assert texts(waiting_note(IDLE, True)) == LOADING and waiting_note(IDLE, False) == []


def test_the_page_shows_it_until_the_first_word_comes(page, services, picture):
    who = Actor("c" * 32, rights=STRANGER)
    services.chat.set_images(who, (services.chat.add_image(who, picture).name,))
    first, second = services.chat.line.join(), services.chat.line.join()
    first.__enter__(), second.__enter__()
    threading.Timer(0.5, lambda: (first.__exit__(None, None, None), second.__exit__(None, None, None))).start()
    shown = [texts(each.get("chat-message") or []) for each in page.fire("question", "submit", who, "What?", False)]
    assert "You are 3rd" in shown and shown[-1] == "", shown


def test_a_refusal_stands_above_the_box_with_what_was_typed_in_it(page, services, picture):
    who = Actor("c" * 32, rights=STRANGER)
    services.chat.set_images(who, (services.chat.add_image(who, picture).name,))
    services.chat.limits = Limits(1, 0)
    list(page.fire("question", "submit", who, "What is it?", False))
    last = list(page.fire("question", "submit", who, "And what is that?", False))[-1]
    assert "Too many questions" in texts(last["chat-message"]) and "Wait 60 s" not in texts(last["chat-message"])
    assert "Wait a minute and try again; what you typed is kept." in texts(last["chat-message"])
    assert last["question"]["value"] == "And what is that?"


def test_the_first_question_after_an_unload_is_answered_and_told(page, services, picture, monkeypatch):
    """The base is not in memory: the page says that it is loaded, and then come both answers."""
    who, model = Actor("c" * 32, rights=STRANGER), services.host._model
    services.chat.set_images(who, (services.chat.add_image(who, picture).name,))
    assert services.host.unload_idle(0) and not services.host.loaded
    load_instead(monkeypatch, lambda *_, **__: model)
    shown = list(page.fire("question", "submit", who, "What is it?", False))
    assert texts(shown[0]["chat-message"]) == LOADING and texts(shown[-1]["chat-message"]) == ""
    assert services.chat.open(who).turns[-1].right.answer_id


def test_a_queued_run_says_when_its_turn_comes(tmp_path):
    from rlhfv.runs.local import LocalRuns
    from rlhfv.runs.state import Run
    from rlhfv.studio.runs_view import heading

    shared, alone = LocalRuns(tmp_path / "a", 180), LocalRuns(tmp_path / "b")
    assert (shared._longest_wait(2), shared._longest_wait(None), alone._longest_wait(2)) == (360, None, None)
    queued = Run("r", "training", "mine", "queued", "2026", {}, eta=360, place=2)
    told = texts(heading(queued, [], "Step"))
    assert "number 2 in the queue. Its turn comes in about 6 min, or before." in told
    assert "Its turn" not in texts(heading(replace(queued, eta=None), [], "Step"))
