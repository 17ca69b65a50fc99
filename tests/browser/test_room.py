"""A run that does not fit beside the chat, as the page asks about it; by keyboard."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlhfv.ddpo.check import CheckReport
from rlhfv.runs import local
from tests.services.fakes import ScriptedModel, load_instead

pytestmark = pytest.mark.browser
WORKERS = Path(__file__).parents[1] / "runs" / "workers.py"


@pytest.fixture
def short(studio, monkeypatch):
    """Runs need 3 GB where 1 GB is free, the chat's model holds 2 GB; their work is counting slowly."""
    report = CheckReport(5, (), memory=3_000_000_000, available=1_000_000_000)
    monkeypatch.setattr("rlhfv.services.training.check_run", lambda *_, **__: report)
    load_instead(monkeypatch, lambda entry: ScriptedModel())
    monkeypatch.setattr(local, "_free_memory", lambda: 1_000_000_000)
    monkeypatch.setattr(local, "build_command", lambda _, folder: [sys.executable, str(WORKERS), "slow", str(folder)])
    host = studio.services.host
    host.identity  # noqa: B018  known before its weights are gone, as with a real model
    weights = SimpleNamespace(nbytes=2_000_000_000)
    monkeypatch.setattr(host._model, "model", SimpleNamespace(parameters=lambda: [weights]), raising=False)
    yield
    for run in studio.services.training.local.list():
        studio.services.training.local.stop(run.id)


def start(page) -> None:
    page.locator("#start-run").press("Enter")
    question = page.locator("#train-message").get_by_role("alert")
    question.get_by_text("This run needs about 3.0 GB of memory, 1.0 GB are free.").wait_for()
    question.get_by_text("The chat's model holds 2.0 GB.").wait_for()
    page.wait_for_function("document.activeElement?.textContent === 'Unload the chat while it works'")


def test_the_chat_is_unloaded_for_a_run_and_comes_back(studio, short, open_page):
    page = open_page(f"{studio.address}?tab=train", viewport={"width": 1300, "height": 900})
    page.locator("body[data-ready]").wait_for()
    start(page)
    page.keyboard.press("Enter")
    page.locator("#run-heading").get_by_text("of 400").wait_for()
    assert not studio.services.host.loaded
    page.get_by_role("tab", name="Chat").press("Enter")
    page.locator("#chat-examples, #chat-picture").first.wait_for()
    picture = Path(__file__).parents[2] / "benchmarks" / "pictures" / "chat.png"
    page.set_input_files("#chat-picture input[type=file]", picture)
    page.locator("#chat-picture img[src*='images/']").wait_for()
    page.locator("#question textarea").fill("Are you there?")
    page.locator("#question textarea").press("Enter")
    page.locator("#chat-message").get_by_text("The model is out of memory for the run").wait_for()

    page.get_by_role("tab", name="Train").press("Enter")
    page.locator("#run-heading").get_by_role("button", name="Stop").press("Enter")
    page.locator("#run-heading").get_by_text("stopped").wait_for()
    page.get_by_role("tab", name="Chat").press("Enter")
    page.locator("#question textarea").press("Enter")
    page.locator("#left-column").get_by_text("baseline says: Are you there?").wait_for()
