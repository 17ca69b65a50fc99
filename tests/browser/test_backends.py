"""Training elsewhere from the page: a run goes to a repository and a worker, another becomes a job of the Hub."""

import re
from types import SimpleNamespace

import pytest

from rlhfv.ddpo.check import CheckReport
from rlhfv.runs import hub_jobs
from rlhfv.services import backends as rooms
from rlhfv.services import build_services
from rlhfv.settings import Settings
from tests.apps import free_port
from tests.runs.test_hub_runs import REPO, ROOT, SCRIPT, start, token
from tests.services.fakes import ScriptedModel, scripted_entry

__all__ = ["start", "token"]
pytestmark = pytest.mark.browser


@pytest.fixture
def studio(tmp_path, hub, connect, monkeypatch):
    """The page over a scripted model, whose Hub is `hub`; nobody is signed in."""
    from rlhfv.studio.app import launch

    connect()
    monkeypatch.setattr("rlhfv.services.model_host.find_entry", lambda *_: scripted_entry())
    monkeypatch.setattr("rlhfv.services.training.check_run", lambda pairs, *_, **__: CheckReport(1, (), seconds=65.0))
    monkeypatch.setattr(rooms.Backends, "_operations", lambda *_: (65e12 * 1500, 0.5))
    monkeypatch.setattr(rooms, "REFRESH_SECONDS", 0.5)
    inside = f'PYTHONPATH={ROOT} exec python {SCRIPT} middling "$0" work box 600 "$4"'
    monkeypatch.setattr(hub_jobs, "_COMMAND", inside)
    services = build_services(Settings(data_dir=tmp_path / "data", model="scripted"))
    services.host._model = ScriptedModel()
    port = free_port()
    launch(services, prevent_thread_lock=True, server_port=port, quiet=True)
    return SimpleNamespace(address=f"http://127.0.0.1:{port}/", services=services)


@pytest.fixture
def open_train(studio, open_page):
    def open_train(where: str):
        page = open_page(f"{studio.address}?tab=train")
        page.locator("body[data-ready]").wait_for()
        page.locator("#train-where").get_by_text(where).click()
        return page

    return open_train


def sign_in(page, secret: str) -> None:
    page.locator("#away-token input").fill(secret)
    page.locator("#away-token input").press("Enter")
    page.locator("#away-session").get_by_text("Signed in to the Hub as ann").wait_for()


def name_repository(page) -> None:
    page.locator("#away-repo").get_by_role("textbox").fill(REPO)
    page.locator("#away-repo").get_by_role("textbox").press("Enter")


def test_a_run_goes_to_a_repository_and_its_worker_is_followed(studio, hub, open_train, token, start):
    page = open_train("A machine of mine")
    message, heading = page.locator("#train-message"), page.locator("#run-heading")
    name_repository(page)
    page.get_by_role("button", name="Send the run").click()
    message.get_by_role("alert").get_by_text("You are not signed in to the Hub.").wait_for()

    sign_in(page, token)
    page.locator("#away-machines").get_by_text("No machine has taken runs from here yet.").wait_for()
    page.locator("#train-command").get_by_text(f"--backend {REPO}").wait_for()
    page.get_by_role("button", name="Send the run").click()
    heading.get_by_text(f"Waits in {REPO} for a machine that takes it").wait_for()
    assert hub.repo(REPO, "model").private

    worker = start("slow")
    heading.get_by_text(re.compile(rf"Step \d+ of 400 on box, through {REPO}")).wait_for()
    page.locator("#away-repo").get_by_role("textbox").press("Enter")
    page.locator("#away-machines").get_by_text(re.compile("at work on “.*”, seen just now")).wait_for()
    heading.get_by_role("button", name="Stop", exact=True).click()
    heading.get_by_role("button", name="Resume").wait_for()
    worker.wait(30)
    heading.get_by_role("button", name="Resume").click()
    heading.get_by_text(f"Waits in {REPO}").wait_for()
    start("quick")
    heading.get_by_role("button", name="Chat with it").wait_for()
    page.locator("#run-log summary").click()
    page.locator("#run-log").get_by_text(re.compile("working in …")).wait_for()
    assert hub.leaks == [] and token not in page.content()


@pytest.mark.slow
def test_a_job_is_started_with_its_price_told_and_followed(studio, hub, open_train):
    without_jobs, token = hub.user("ann", {"ann": ["repo.write"]}), hub.user("ann")
    page = open_train("A job of the Hub")
    message, heading = page.locator("#train-message"), page.locator("#run-heading")
    name_repository(page)
    sign_in(page, without_jobs)
    page.get_by_role("button", name="Choose a machine").click()
    message.get_by_role("alert").get_by_text(re.compile(r"job\.write")).wait_for()
    assert not hub.storage.repos, "nothing was sent"

    page.locator("#away-session").get_by_role("button", name="Sign out").click()
    sign_in(page, token)
    page.locator("#away-timeout input").fill("90")
    page.get_by_role("button", name="Choose a machine").click()
    offer = message.get_by_role("listitem").filter(has_text="Nvidia T4 - small")
    offer.get_by_text("about 55 min, $0.37 · at most $0.60 in 90 min").wait_for()
    hub.jobs.broke.add("ann")
    offer.get_by_role("button").click()
    message.get_by_role("alert").get_by_text(re.compile("has no credit for it")).wait_for()
    heading.get_by_text(re.compile("has no credit for it")).wait_for()
    assert hub.jobs.all == []

    hub.jobs.broke.clear()
    heading.get_by_role("button", name="Resume").click()
    message.get_by_role("listitem").filter(has_text="Nvidia L4").get_by_role("button").click()
    heading.get_by_text(re.compile(r"Step \d+ of 60 on box")).wait_for()
    [job] = hub.jobs.all
    assert job.spec["flavor"] == "l4x1" and job.secrets == {"HF_TOKEN": token}
    heading.get_by_role("button", name="Chat with it").wait_for()
    assert page.locator("#plot-0 canvas, #plot-0 svg").count(), "its curve is drawn"
    assert hub.leaks == [] and len(hub.jobs.all) == 1
