"""Generated answers are kept as they were, and so is what the pages remember beside them."""

import uuid
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhfv.corrections.store import Store
from rlhfv.errors import InvalidCorrection, InvalidData, NotFound

ANY_TEXT = st.text(st.characters(), max_size=40)


def test_answers_are_kept_as_they_were(store, make_answer):
    answer = make_answer(text="猫 👩‍🚀 e\u0301 \0 \r \u2028 <b>${x}</b>", extra={"tokens": 3})
    store.add_answer(answer)
    store.add_answer(answer)
    assert store.answer(answer.id) == answer
    assert Store(store.path).answer(answer.id) == answer
    with pytest.raises(InvalidData):
        store.add_answer(replace(answer, text="Something else."))
    assert store.answer(answer.id) == answer


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=ANY_TEXT)
def test_any_text_that_utf8_can_hold_is_kept_exactly(store, make_answer, text):
    answer = make_answer(f"a{uuid.uuid4().hex}", text)
    if any(0xD800 <= ord(character) < 0xE000 for character in text):
        with pytest.raises(InvalidCorrection):
            store.add_answer(answer)
    else:
        store.add_answer(answer)
        assert store.answer(answer.id).text == text


@pytest.mark.parametrize("id", ["", "nothing", "' OR 1=1 --", "\ud800", "a\0b", "../x", "x" * 10**6, None, 7, ("a",)])
def test_forged_ids_find_nothing(saved, id):
    store, _ = saved
    for read in (store.answer, store.pair, store.history):
        with pytest.raises(NotFound) as caught:
            read(id)
        assert len(str(caught.value)) < 1000
    for change in (store.delete, store.undo):
        with pytest.raises(NotFound):
            change(id, "ann")
    with pytest.raises(NotFound):
        store.restore(id, 1, "ann")
    with pytest.raises(NotFound):
        store.save_draft("visitor-1", id, {})
    assert store.draft("visitor-1", id) is None
    assert store.image_source(id) == ""
    assert store.recall(id) is None


def test_next_uncorrected_goes_round(store, make_answer, make_pair, make_judgement):
    answers = [make_answer(f"a{index}") for index in range(6)]
    for answer in answers:
        store.add_answer(answer)
    store.add_answer(make_answer("other", visitor="v2"))
    assert store.next_uncorrected("visitor-1").id == "a0"
    assert store.next_uncorrected("visitor-1", "a0").id == "a1"
    assert store.next_uncorrected("visitor-1", "a5").id == "a0"
    store.save(make_judgement("j1", "a1"), make_pair(answers[1], "No."))
    store.save(make_judgement("j2", "a2", outcome="faithful"))
    store.save(make_judgement("j3", "a3", outcome="skipped", reason="unsure"))
    store.save(make_judgement("j4", "a4", "a5", outcome="both_bad"))
    assert store.uncorrected("visitor-1") == ["a0", "a4", "a5"]
    assert store.next_uncorrected("visitor-1", "a1").id == "a4"
    assert store.next_uncorrected("visitor-1", "forged").id == "a0"
    assert store.next_uncorrected("v2", "other") is None
    assert store.next_uncorrected("nobody") is None


def test_drafts_conversations_settings_and_sources(store, make_answer):
    store.add_answer(make_answer())
    document = {"edits": [{"start": 0, "end": 3, "replacement": "\ud83d 猫 \0", "kind": "other"}]}
    store.save_draft("v1", "answer-1", {"edits": []})
    store.save_draft("v1", "answer-1", document)
    store.save_conversation("v1", document)
    store.remember("terms:v1", {"licence": "CC0"})
    store.set_image_source("a" * 64 + ".png", "demo:pairs/1234")
    store = Store(store.path)
    assert store.draft("v1", "answer-1") == document
    assert store.draft("v2", "answer-1") is None
    assert store.conversation("v1") == document
    assert store.conversation("v2") is None
    assert store.recall("terms:v1") == {"licence": "CC0"}
    assert store.recall("terms:v2") is None
    assert store.image_source("a" * 64 + ".png") == "demo:pairs/1234"
    assert store.image_source("b" * 64 + ".png") == ""
    store.drop_draft("v1", "answer-1")
    store.drop_draft("v1", "answer-1")
    assert store.draft("v1", "answer-1") is None
