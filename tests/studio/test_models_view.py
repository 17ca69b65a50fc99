"""The models of the studio on the page: what each is, and another one put beside by who may."""

import pytest

from rlhfv.ddpo.check import CheckReport
from rlhfv.errors import ModelUnavailable
from rlhfv.services import Actor, build_services
from rlhfv.settings import Settings
from tests.services.fakes import ScriptedModel, scripted_entry
from tests.studio.conftest import Page, texts

VISITOR = Actor("v" * 32, rights=frozenset({"chat", "correct"}))


def any_entry(name, *_):
    return scripted_entry(id=name, title=name.title(), source=name)


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """Services and their page, built once. Any name is an entry of its own, which fits."""
    from rlhfv.studio.app import build_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlhfv.services.model_host.find_entry", any_entry)
        patch.setattr("rlhfv.services.bases.Bases.require_fits", lambda self, base: None)
        services = build_services(Settings(data_dir=tmp_path_factory.mktemp("data"), model="scripted"))
        services.host.first.model = ScriptedModel()
        yield services, Page(build_app(services))


@pytest.fixture
def services(studio):
    yield studio[0]
    studio[0].host.take_away()


@pytest.fixture
def page(studio):
    return studio[1]


def test_anybody_reads_what_answers_here_and_under_which_licence(page):
    shown = texts(page.fire("new-conversation", "click", VISITOR)["models-here"])
    assert "Scripted" in shown and "Licence: apache-2.0." in shown and "at 000000000000" in shown
    assert "0 B in memory." in shown


def test_the_owner_puts_a_model_beside_and_takes_it_away(page, services, ada):
    shown = page.fire("put-beside", "click", ada, "other/model")
    assert shown["left-voice"]["value"] == "baseline" and shown["right-voice"]["value"] == "base:other/model"
    told = texts(shown["models-here"])
    assert "Other/Model" in told and "Not in memory." in told and "the one that comes is noted" in told
    assert services.host.second.model is None, "it is loaded with the next question"
    shown = page.fire("take-away", "click", ada)
    assert shown["right-voice"]["value"] == "baseline" and services.host.second is None


def test_what_does_not_fit_is_refused_in_words_and_not_left_there(page, services, ada, monkeypatch):
    def refuse(self, base):
        raise ModelUnavailable("It does not fit.", "7 billion parameters.", "Pick a smaller one.")

    monkeypatch.setattr("rlhfv.services.bases.Bases.require_fits", refuse)
    shown = page.fire("put-beside", "click", ada, "huge/model")
    assert "It does not fit. 7 billion parameters. Pick a smaller one." in texts(shown["chat-message"])
    assert services.host.second is None
    assert "No model was named." in texts(page.fire("put-beside", "click", ada, None)["chat-message"])


def test_a_visitor_changes_nothing_for_others(page, services):
    shown = page.fire("put-beside", "click", VISITOR, "other/model")
    assert "right 'manage'" in texts(shown["chat-message"]) and services.host.second is None


def test_the_next_run_trains_the_base_that_was_chosen(page, services, ada, bob, monkeypatch):
    page.fire("put-beside", "click", ada, "other/model")
    assert services.training.bases(ada) == [("Scripted", ""), ("Other/Model", "base:other/model")]
    shown = page.fire("train-base", "input", ada, "base:other/model")["train-base"]
    assert shown["value"] == "base:other/model" and shown["visible"]
    assert services.training.base_to_train(ada).entry.id == "other/model"
    assert services.training.base_to_train(bob).entry.id == "scripted", "each visitor chooses for themselves"
    # another page of hers chose another one since: this page trains the one that it shows
    services.training.choose_base(ada, "")
    trained, form = [], ["demo"] + [None] * (len(page.events["check-run", "click"][0].inputs) - 4)
    monkeypatch.setattr(
        "rlhfv.services.training.check_run",
        lambda pairs, config, entry, *_: trained.append(entry.id) or CheckReport(1, ()),
    )
    page.fire("check-run", "click", ada, "here", "", *form, "base:other/model")
    assert trained == ["other/model"]
    services.host.take_away()
    told = list(page.fire("check-run", "click", ada, "here", "", *form, "base:other/model"))
    assert "not here any more" in str(told[-1]) and len(trained) == 1
    assert services.training.base_to_train(ada).entry.id == "scripted"
