"""The chat's events without a browser, over the real services and a scripted model."""

from pathlib import Path

import pytest
from PIL import Image

from rlhfv.studio.stops import Stops
from rlhfv.studio.visitor import HEADER, describe
from tests.studio.conftest import texts


@pytest.fixture
def seen(page, services, ada, picture):
    """A conversation with a picture."""
    image = services.chat.add_image(ada, picture)
    services.chat.set_images(ada, (image.name,))
    return image.name


def ask(page, who, question):
    return page.fire("question", "submit", who, question, False)


def test_a_question_streams_into_both_columns_and_empties_the_box(page, seen, ada):
    states = ask(page, ada, "What is there?")
    assert states[0]["question"]["value"] == "" and states[0]["question"]["stop_btn"] is True
    assert states[-1]["question"]["submit_btn"] is True
    last = [state for state in states if "left-column" in state][-1]
    assert "baseline says: What is there?" in texts(last["left-column"])
    assert "Correct this" in texts(last["right-column"])


def test_an_error_is_told_where_one_looks_and_the_question_comes_back(page, ada):
    last = ask(page, ada, "What is there?")[-1]
    assert last["question"]["value"] == "What is there?"
    assert "There is no picture yet." in texts(last["chat-message"]) and last["chat-message"][0][1]["role"] == "alert"


def test_a_reload_shows_the_conversation_to_its_visitor_only(page, seen, ada, bob):
    ask(page, ada, "What is there?")
    assert "What is there?" in texts(page.fire("tab-chat", "select", ada)["left-column"])
    other = page.fire("tab-chat", "select", bob)
    assert "No question yet" in texts(other["left-column"]) and other["chat-picture"] is None


def test_a_page_that_goes_away_leaves_the_answer_so_far(page, services, seen, ada):
    services.host._model.delay = 0.2
    function = page.events["question", "submit"][0]
    request = type("Request", (), {"headers": {HEADER: describe(ada)}})()
    stream = function.fn("What is there?", False, request)
    for _ in range(4):
        next(stream)
    stream.close()
    turn = services.chat.open(ada).turns[-1]
    assert turn.left.text and turn.left.answer_id and not turn.left.finished
    assert turn.left.text != "baseline says: What is there? #0"


def test_a_new_picture_in_mid_chat_waits_for_the_next_question(page, services, seen, ada, tmp_path):
    ask(page, ada, "What is there?")
    upload = tmp_path / "upload.png"
    Image.new("RGB", (20, 20), "red").save(upload)
    shown = page.fire("chat-picture", "input", ada, str(upload))
    assert "Joins with your next question" in texts(shown["chat-strip"])
    assert "What is there?" in texts(shown["left-column"]), "nothing is reset"
    assert not upload.exists(), "the upload with its metadata is gone"
    fresh = page.fire("chat-strip", "select", ada, data={"act": "fresh", "ref": ""})
    assert "No question yet" in texts(fresh["left-column"]) and fresh["chat-picture"] not in (None, seen)


def test_a_model_of_one_picture_offers_a_new_conversation_and_no_second_picture(page, services, seen, ada, tmp_path):
    assert page.fire("tab-chat", "select", ada)["add-picture"]["visible"] is True
    services.host._model.takes_several_images = False
    assert page.fire("tab-chat", "select", ada)["add-picture"]["visible"] is False
    ask(page, ada, "What is there?")
    upload = tmp_path / "upload.png"
    Image.new("RGB", (20, 20), "red").save(upload)
    shown = page.fire("chat-picture", "input", ada, str(upload))
    assert "one picture a conversation" in texts(shown["chat-strip"])
    assert [act for act, _ in acts(shown["chat-strip"])] == ["drop", "fresh"]


def test_a_file_that_is_no_picture_is_refused_with_a_reason(page, ada, tmp_path):
    upload = tmp_path / "upload.png"
    upload.write_bytes(b"not a picture")
    shown = page.fire("chat-picture", "input", ada, str(upload))
    assert "could not be read as an image" in texts(shown["chat-message"]) and shown["chat-picture"] is None


def test_regenerating_and_editing_replace_the_last_turn(page, seen, ada):
    ask(page, ada, "First?")
    page.fire("regenerate", "click", ada)
    again = page.fire("edit-question", "click", ada)
    assert again["question"] == "First?" and "replaces" in texts(again["chat-message"])
    last = [state for state in page.fire("question", "submit", ada, "Second?", True) if "left-column" in state][-1]
    assert "Second?" in texts(last["left-column"]) and "First?" not in texts(last["left-column"])


def test_regenerating_a_sampled_answer_takes_another_seed(page, services, seen, ada):
    page.fire("left-voice", "input", ada, "baseline", "baseline", 0.7, 0.9, 64, 11)
    ask(page, ada, "First?")
    states = page.fire("regenerate", "click", ada)
    assert states[0] == {next(iter(states[0])): 12} and services.chat.open(ada).sampling.seed == 12


def test_votes_and_judgements_are_noted(page, seen, ada):
    assert "no two answers" in texts(
        page.fire("votes", "select", ada, data={"act": "vote", "ref": "left"})["chat-message"]
    )
    ask(page, ada, "First?")
    assert "Noted" in texts(page.fire("votes", "select", ada, data={"act": "vote", "ref": "tie"})["votes"])
    answer = page.fire("tab-chat", "select", ada)["left-column"]
    ref = next(ref for act, ref in acts(answer) if act == "faithful")
    assert "✓" in texts(page.fire("left-column", "select", ada, data={"act": "faithful", "ref": ref})["left-column"])


def test_a_forged_answer_id_is_refused_with_a_reason(page, seen, ada, bob):
    ask(page, ada, "First?")
    ref = next(ref for act, ref in acts(page.fire("tab-chat", "select", ada)["left-column"]) if act == "faithful")
    for forged in (ref, "no-such-id"):
        shown = page.fire("left-column", "select", bob, data={"act": "faithful", "ref": forged})
        assert shown["chat-message"][0][1]["role"] == "alert"


def test_a_suggestion_that_was_not_offered_is_refused(page, seen, ada):
    import gradio as gr

    with pytest.raises(gr.Error):
        page.fire("suggestions", "select", ada, data={"act": "suggest", "ref": "99"})


def test_stopping_ends_only_the_visitors_own_generations():
    stops = Stops()
    mine, other = stops.add("a"), stops.add("b")
    stops.stop("a")
    assert mine.is_set() and not other.is_set()
    stops.end("b", other)
    assert other.is_set() and stops._events.keys() == {"a"}


def test_an_upload_is_read_no_further_than_the_limit(page, ada, tmp_path, monkeypatch):
    monkeypatch.setattr("rlhfv.studio.chat.MAX_BYTES", 10)
    taken = []
    upload = Path(tmp_path / "big.png")
    upload.write_bytes(b"x" * 1000)
    monkeypatch.setattr("rlhfv.services.chat.Chat.add_image", lambda self, who, data: taken.append(len(data)) or 1 / 0)
    page.fire("chat-picture", "input", ada, str(upload))
    assert taken == [11]


def acts(nodes):
    """(act, ref) of every button in a view's value."""
    if isinstance(nodes, str):
        return
    if len(nodes) > 1 and isinstance(nodes[1], dict):
        if "data-act" in nodes[1]:
            yield nodes[1]["data-act"], nodes[1].get("data-ref", "")
        nodes = nodes[2:]
    for node in nodes:
        yield from acts(node)
