import json
import threading

import pytest

from rlhfv.corrections.edits import Edit
from rlhfv.corrections.hints import Hint, ShownHint
from rlhfv.corrections.pairs import Judgement
from rlhfv.errors import Forbidden, GenerationFailed, InvalidCorrection, ModelUnavailable, NotFound
from rlhfv.models.engine import Reader
from rlhfv.services import Actor
from rlhfv.services.hints import memory_key
from rlhfv.services.model_host import Voice
from rlhfv.services.terms import Terms

VOICES = (
    Voice("", "Baseline"),
    Voice("first@1", "First", source="/adapters/first"),
    Voice("second@2", "Second", source="/adapters/second"),
)


@pytest.fixture
def answered(services, ada, picture, monkeypatch):
    """Answers of the baseline and of the second of two adapters."""
    monkeypatch.setattr(services.host, "voices", lambda actor: VOICES)
    services.host._model.adapters = lambda: {"first@1": None, "second@2": None}
    services.chat.choose(ada, "", "second@2", services.chat.open(ada).sampling)
    services.chat.set_images(ada, (services.chat.add_image(ada, picture).name,))
    *_, state = services.chat.ask(ada, "What is it?", threading.Event())
    services.corrections.set_terms(ada, Terms("cc-by-4.0", True, "Ada"))
    return services, state.turns[0].left.answer_id, state.turns[0].right.answer_id


def newest(services, answer_id) -> Judgement:
    return services.store.judgements(answer=answer_id)[0]


def test_suspect_words_are_found_once_and_kept(answered, ada):
    services, first, _ = answered
    model = services.host._model
    [hint] = services.hints.hints(ada, first)
    text = services.store.answer(first).text
    assert text[hint.start : hint.end] == "says" and hint.kind == "object" and hint.source == "parting"
    assert 0.6 < hint.score <= 1
    assert services.hints.hints(ada, first) == [hint] and len(model.reads) == 1
    services.host._model = None
    assert services.hints.hints(ada, first) == [hint], "what is known needs no model"
    assert text not in json.dumps(services.store.recall(memory_key(first)))


def test_an_answer_is_read_by_its_voice_and_the_one_beside_it(answered, ada):
    services, first, second = answered
    services.hints.hints(ada, first)
    services.hints.hints(ada, second)
    assert services.host._model.reads == [
        (Reader(None), Reader("second@2"), Reader(None, blind=True)),
        (Reader("second@2"), Reader(None), Reader("second@2", blind=True)),
    ]


def test_a_voice_that_is_gone_is_replaced_by_what_is_offered(answered, ada, monkeypatch):
    services, _, second = answered
    monkeypatch.setattr(services.host, "voices", lambda actor: VOICES[:2])
    services.hints.hints(ada, second)
    monkeypatch.setattr(services.host, "voices", lambda actor: VOICES[:1])
    services.store.remember(memory_key(second), None)
    services.hints.hints(ada, second)
    assert services.host._model.reads == [
        (Reader(None), Reader("first@1"), Reader(None, blind=True)),
        (Reader(None), Reader(None, blind=True)),
    ]


def test_without_a_model_there_are_none_and_none_is_loaded(answered, ada, monkeypatch):
    services, first, _ = answered
    services.host._model = None
    monkeypatch.setattr("rlhfv.models.local.LocalModel.load", lambda *_: pytest.fail("hints loaded the model"))
    assert services.hints.hints(ada, first) == []
    assert services.store.recall(memory_key(first)) is None, "the next visit asks again"


def test_a_base_that_is_out_because_models_take_turns_is_said_to_be(answered, ada, monkeypatch):
    services, first, _ = answered
    assert services.hints.why_none(ada, first) == ""
    services.host._model = None
    assert services.hints.why_none(ada, first) == "", "it was unloaded for another reason and may come back"
    services.host.bases.take_turns = True
    assert "take turns" in services.hints.why_none(ada, first)


@pytest.mark.parametrize("error", [ModelUnavailable, GenerationFailed])
def test_a_model_that_was_unloaded_or_fails_is_no_error(answered, ada, monkeypatch, error):
    services, first, _ = answered

    def fail(*_):
        raise error("a", "b", "c")

    monkeypatch.setattr(services.host._model, "read", fail)
    assert services.hints.hints(ada, first) == []


def test_answers_of_others_have_no_hints(answered, ada, bob):
    services, first, _ = answered
    for who, answer_id in ((bob, first), (ada, "0" * 32), (ada, "../../etc/passwd")):
        with pytest.raises(NotFound):
            services.hints.hints(who, answer_id)
    with pytest.raises(Forbidden):
        services.hints.hints(Actor(ada.visitor, rights=frozenset({"chat"})), first)
    assert services.host._model.reads == []


def test_a_blind_correction_gets_none_whatever_the_page_says(answered, ada, monkeypatch):
    services, first, _ = answered
    assert services.hints.hints(ada, first)
    monkeypatch.setattr(services.store, "is_blind", lambda answer, visitor: answer == first)
    assert services.hints.hints(ada, first) == []


def test_shown_hints_are_recorded_with_the_judgement(answered, ada):
    services, first, second = answered
    [hint] = services.hints.hints(ada, first)
    original, span = services.store.answer(first).text, (hint.start, hint.end)
    edit = Edit(hint.start, hint.end, "writes", "action")
    services.corrections.save(ada, first, original, [edit], shown=[span])
    assert newest(services, first).hints == (ShownHint(**vars(hint), corrected=True),)
    other = Edit(0, 8, "expert", "object")
    services.corrections.save(ada, first, original, [other], shown=[span])
    assert newest(services, first).hints == (ShownHint(**vars(hint), corrected=False),)
    services.corrections.save(ada, first, original, [edit])
    assert newest(services, first).hints == (), "nothing was shown: switched off, or a blind correction"
    [hint] = services.hints.hints(ada, second)
    services.corrections.faithful(ada, second, shown=[(hint.start, hint.end)])
    assert newest(services, second).hints == (ShownHint(**vars(hint), corrected=False),)
    services.corrections.skip(ada, second, "not sure", shown=[(hint.start, hint.end)])
    assert newest(services, second).outcome == "skipped" and len(newest(services, second).hints) == 1


def test_hints_are_never_taken_by_themselves(answered, ada):
    services, first, _ = answered
    services.hints.hints(ada, first)
    assert services.corrections.open(ada, first).edits == () and services.store.draft(ada.visitor, first) is None


def test_forged_hints_are_dropped(answered, ada):
    services, first, second = answered
    edit = Edit(0, 8, "expert", "object")
    original = services.store.answer(first).text
    services.corrections.save(ada, first, original, [edit], shown=[(0, 8), (-5, 3), (9, 10**9)])
    assert newest(services, first).hints == (), "no hints were computed for this answer"
    services.hints.hints(ada, second)
    services.corrections.faithful(ada, second, shown=[(0, 1)])
    assert newest(services, second).hints == ()


def test_judgements_from_before_hints_can_be_read(answered, ada):
    services, first, _ = answered
    services.corrections.faithful(ada, first)
    row = newest(services, first).to_row()
    assert Judgement.from_row(json.loads(json.dumps(row))) == newest(services, first)
    del row["hints"]
    assert Judgement.from_row(row) == newest(services, first)


@pytest.mark.parametrize(
    "change", [{"start": 5, "end": 5}, {"start": -1}, {"score": 1.5}, {"kind": "forged"}, {"source": "forged"}]
)
def test_a_judgement_with_a_forged_hint_is_refused(answered, ada, change):
    services, first, _ = answered
    services.corrections.faithful(ada, first)
    shown = ShownHint(**vars(Hint(1, 4, 0.5, "object", "blind")) | change)
    row = newest(services, first).to_row() | {"hints": [vars(shown)]}
    with pytest.raises(InvalidCorrection):
        Judgement.from_row(row).validate()
