"""The terms of the studio on the page: read and agreed to in the dialog before the first save."""

import threading

import pytest

from rlhfv.services import Actor, build_services
from rlhfv.settings import Settings
from rlhfv.studio import pairs_view
from tests.services.fakes import ScriptedModel, scripted_entry
from tests.studio.conftest import build_page, texts

WHO = Actor("c" * 32, rights=frozenset({"chat", "correct", "train"}))


@pytest.fixture
def shared(tmp_path, monkeypatch, picture):
    """A studio with terms, its page, and a correction that waits to be saved."""
    from rlhfv.studio.span_editor import SpanEditor

    monkeypatch.setattr("rlhfv.services.model_host.find_entry", lambda *_: scripted_entry())
    (tmp_path / "terms.md").write_text("What is kept: all.\n\nWho sees it: <b>everybody</b>.")
    settings = Settings(tmp_path / "data", model="scripted", single_user=False, terms=tmp_path / "terms.md")
    services = build_services(settings)
    services.host._model = ScriptedModel()
    services.chat.set_images(WHO, (services.chat.add_image(WHO, picture).name,))
    *_, state = services.chat.ask(WHO, "What is it?", threading.Event())
    reply = state.turns[-1].left
    document = SpanEditor.document(reply.text, reply.answer_id, ())
    correction = {"start": 0, "end": 8, "replacement": "One", "kind": "object"}
    document = type(document).model_validate(document.model_dump() | {"corrections": [correction]})
    return services, build_page(services), document


def test_a_save_asks_first_and_goes_on_when_agreed(shared):
    services, page, document = shared
    version = services.consent.house.version
    asked = page.fire("editor", "submit", WHO, document, [], 3)
    assert asked["terms"]["visible"] and not services.corrections.mine(WHO)
    said = (document, [], 3, "Ada", "cc-by-4.0", True, "save")
    told = page.fire("terms-agree", "click", WHO, *said, version)
    assert not told["terms"]["visible"]
    [pair] = services.corrections.mine(WHO)
    agreement = services.corrections.agreement(WHO, pair.id)
    assert agreement.version == version
    record = pairs_view.record(pair, services.corrections.history(WHO, pair.id), agreement)
    assert f"version {version}, agreed" in texts(record), "the pair shows it"


def test_a_page_that_showed_an_older_text_gives_no_consent_to_the_newer(shared):
    import gradio as gr

    services, page, document = shared
    with pytest.raises(gr.Error, match="Read them as they are now"):
        page.fire("terms-agree", "click", WHO, document, [], 3, "", "cc-by-4.0", False, "save", "an older one")
    assert services.consent.missing(WHO) and not services.corrections.mine(WHO)


def test_the_text_stands_in_the_dialog_as_it_is(shared):
    services, page, _ = shared
    block = next(block for block in page.demo.blocks.values() if getattr(block, "elem_id", None) == "terms-text")
    told = texts(block.value)
    assert "What is kept: all." in told and "<b>everybody</b>" in told and services.consent.house.version in told


@pytest.mark.parametrize(
    ("part", "act", "ref"), [("votes", "vote", "tie"), ("left-column", "faithful", ""), ("votes", "vote", "both_bad")]
)
def test_the_chat_asks_the_same_before_a_judgement_and_then_keeps_it(shared, part, act, ref):
    services, page, _ = shared
    answer = services.chat.open(WHO).turns[-1].left.answer_id
    data = {"act": act, "ref": ref or answer}
    asked = page.fire(part, "select", WHO, data=data)
    assert asked["chat-terms"]["visible"] and not services.store.judgements()
    said = ("Ada", "cc-by-4.0", True, (act, data["ref"]), services.consent.house.version)
    told = page.fire("chat-terms-agree", "click", WHO, *said)
    assert not told["chat-terms"]["visible"] and "Noted" in texts(told["votes"])
    [judgement] = services.store.judgements()
    assert judgement.outcome == (ref or "faithful") and (judgement.annotator, judgement.consent) == ("Ada", True)
    assert services.store.agreement(WHO.visitor, services.consent.house.version)
    assert "chat-terms" not in page.fire(part, "select", WHO, data=data), "asked once"


@pytest.mark.parametrize(("button", "then"), [("nothing-wrong", "faithful"), ("skip", "skip")])
def test_what_is_skipped_or_not_wrong_is_kept_when_agreed(shared, button, then):
    services, page, document = shared
    reason = ["not sure"] if then == "skip" else []
    asked = page.fire(button, "click", WHO, document, *reason)
    assert asked["terms"]["visible"] and not services.store.judgements()
    said = (document, [], 3, "Ada", "cc-by-4.0", True, then, services.consent.house.version, "not sure")
    told = page.fire("terms-agree", "click", WHO, *said)
    assert not told["terms"]["visible"] and "correct-bar" in told
    [judgement] = services.store.judgements()
    assert judgement.outcome == ("skipped" if then == "skip" else "faithful")
