"""A run that does not fit beside the chat: what is asked, and what becomes of each answer."""

import sys
import threading
import time
from pathlib import Path

import pytest

from rlhfv.ddpo.check import CheckReport
from rlhfv.ddpo.config import RECIPES
from rlhfv.errors import InvalidData, ModelUnavailable
from rlhfv.runs import local
from rlhfv.services.memory import ANYWAY, ASK, UNLOAD, WAIT, MemoryShort, find_place
from rlhfv.services.model_host import Voice
from tests.services.fakes import ScriptedModel, load_instead

WORKERS = Path(__file__).parents[1] / "runs" / "workers.py"
DEMO = RECIPES["demo"]


@pytest.fixture
def training(services, monkeypatch):
    """Runs need 3 GB where 1 GB is free; their work is counting slowly, until they are stopped."""
    report = CheckReport(5, (), memory=3_000_000_000, available=1_000_000_000)
    monkeypatch.setattr("rlhfv.services.training.check_run", lambda *_, **__: report)
    load_instead(monkeypatch, lambda entry: ScriptedModel())
    monkeypatch.setattr(local, "build_command", lambda _, folder: [sys.executable, str(WORKERS), "slow", str(folder)])
    monkeypatch.setattr(local, "_free_memory", lambda: 1_000_000_000)
    yield services.training
    for run in services.training.local.list():
        services.training.local.stop(run.id)


def wait_for(happened):
    until = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_run_that_does_not_fit_asks_with_its_figures_and_starts_nothing(training, ada):
    with pytest.raises(MemoryShort, match=r"needs about 3\.0 GB of memory, 1\.0 GB are free") as short:
        training.start(ada, DEMO, room=ASK)
    assert (short.value.needed, short.value.free) == (3_000_000_000, 1_000_000_000)
    assert training.runs(ada) == []


def test_what_fits_is_not_asked_about_and_a_forged_answer_is_refused():
    assert find_place(ASK, needed=5, free=5, held=0) == {"memory": 0, "alone": False}
    with pytest.raises(InvalidData):
        find_place("delete everything", 1, 1, 0)


def test_waiting_until_there_is_room(training, ada, monkeypatch):
    waiting = training.start(ada, DEMO, room=WAIT)
    run = training.run(ada, waiting)
    assert (run.state, run.memory) == ("queued", 3_000_000_000)
    other = training.start(ada, DEMO, room=ANYWAY)
    assert training.run(ada, other).state != "queued", "one that waits for memory keeps nobody"
    training.stop(ada, other)
    wait_for(lambda: training.run(ada, other).state == "stopped")
    assert training.local.start_next() is None
    monkeypatch.setattr(local, "_free_memory", lambda: 3_000_000_000)
    assert training.local.start_next() == waiting


def test_the_chat_gives_its_memory_and_comes_back(services, training, ada, picture):
    services.chat.set_images(ada, (services.chat.add_image(ada, picture).name,))
    run_id = training.start(ada, DEMO, "my run", room=UNLOAD)
    assert not services.host.loaded
    wait_for(lambda: training.run(ada, run_id).step > 0)
    with pytest.raises(ModelUnavailable, match="“my run” \\(step"):
        list(services.chat.ask(ada, "What is it?", threading.Event()))
    services.host.warm().join()
    assert not services.host.loaded, "nothing loads it behind the run's back"
    training.stop(ada, run_id)
    wait_for(lambda: training.run(ada, run_id).state == "stopped")
    services.host.make_room()
    wait_for(lambda: services.host.loaded)
    assert list(services.chat.ask(ada, "What is it?", threading.Event()))


def test_resuming_and_duplicating_ask_too(training, ada):
    run_id = training.start(ada, DEMO, room=ANYWAY)
    wait_for(lambda: training.run(ada, run_id).step > 0)
    training.stop(ada, run_id)
    wait_for(lambda: training.run(ada, run_id).state == "stopped")
    with pytest.raises(MemoryShort):
        training.resume(ada, run_id, room=ASK)
    with pytest.raises(MemoryShort):
        training.duplicate(ada, run_id, room=ASK)
    assert training.run(ada, run_id).state == "stopped" and len(training.runs(ada)) == 1
    assert training.duplicate(ada, run_id, title="mine", room=WAIT).title == "mine"
    assert training.resume(ada, run_id, room=WAIT).memory == 3_000_000_000


def test_an_evaluation_needs_a_model_of_its_own(services, training, ada, monkeypatch):
    monkeypatch.setattr(services.evaluation, "_need", lambda: (3_000_000_000, 1_000_000_000))
    monkeypatch.setattr(services.host, "require_world", lambda: None)
    monkeypatch.setattr(services.host, "voice", lambda who, voice: Voice(voice, "New", source="owner/adapter"))
    folder = services.settings.data_dir / "snapshot"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    monkeypatch.setattr("rlhfv.services.evaluating.adapter_folder", {"owner/adapter": folder}.__getitem__)
    with pytest.raises(MemoryShort):
        services.evaluation.start(ada, ["owner/adapter@1"], 10, room=ASK)
    run = services.evaluation.run(ada, services.evaluation.start(ada, ["owner/adapter@1"], 10, room=WAIT))
    assert run.memory == 3_000_000_000
    assert services.evaluation.folder(ada, run.id).adapter_path("voice-1").joinpath("adapter_config.json").is_file()
