"""An adapter of the Hub is offered at once and fetched when somebody chooses it."""

import shutil
import socket
import threading

import huggingface_hub.constants
import pytest

from rlhfv.corrections.conversation import Sampling
from rlhfv.errors import ModelUnavailable
from rlhfv.models.catalog import DEMO_FOLDER
from rlhfv.services import build_services
from rlhfv.services.model_host import FETCHED_WHEN_CHOSEN
from rlhfv.settings import Settings
from tests.services.fakes import ScriptedModel, scripted_entry

HUB_ID = "someone/adapter"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def services(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("rlhfv.services.model_host.find_entry", lambda *_: scripted_entry())
    services = build_services(Settings(data_dir=tmp_path / "data", model="scripted", adapters=(HUB_ID,)))
    services.host._model = ScriptedModel()
    services.host._model.attach = lambda source: None
    return services


@pytest.fixture
def fetch(tmp_path):
    """Does what a download does."""

    def fetch(*_):
        repository = tmp_path / "cache" / "models--someone--adapter"
        snapshot = shutil.copytree(DEMO_FOLDER / "adapter", repository / "snapshots" / COMMIT)
        (snapshot / "rlhfv.json").unlink()
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
        return snapshot

    return fetch


def no_network(*_, **__):
    raise AssertionError("the network was asked")


def test_it_is_listed_without_the_network(services, ada, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", no_network)
    _, adapter = services.host.voices(ada)
    assert (adapter.id, adapter.title, adapter.notice) == (HUB_ID, "adapter", FETCHED_WHEN_CHOSEN)
    assert services.chat.open(ada).right == HUB_ID


def test_chosen_while_the_hub_is_away_it_says_so_in_three_parts(services, ada):
    with pytest.raises(ModelUnavailable) as refusal:
        services.chat.choose(ada, "", HUB_ID, Sampling())
    assert HUB_ID in refusal.value.what and refusal.value.why and refusal.value.fix
    assert services.chat.choose(ada, "", "", Sampling()).right == ""


def test_chosen_it_is_fetched_once_and_keeps_its_column(services, ada, picture, fetch, monkeypatch):
    monkeypatch.setattr("rlhfv.services.model_host.adapter_folder", fetch)
    chosen = services.chat.choose(ada, "", HUB_ID, Sampling())
    assert chosen.right.startswith(f"{HUB_ID}@")
    monkeypatch.setattr("rlhfv.services.model_host.adapter_folder", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    assert services.chat.open(ada).right == chosen.right
    assert services.host.voices(ada)[1].notice == ""
    services.chat.set_images(ada, (services.chat.add_image(ada, picture).name,))
    *_, last = services.chat.ask(ada, "what is it?", threading.Event())
    assert last.turns[-1].right.text.startswith(chosen.right)


def test_a_first_question_to_the_column_it_stands_in_fetches_it(services, ada, picture, fetch, monkeypatch):
    monkeypatch.setattr("rlhfv.services.model_host.adapter_folder", fetch)
    services.chat.set_images(ada, (services.chat.add_image(ada, picture).name,))
    *_, last = services.chat.ask(ada, "what is it?", threading.Event())
    assert last.right.startswith(f"{HUB_ID}@")
    assert services.store.answer(last.turns[-1].right.answer_id).model.adapter == last.right
