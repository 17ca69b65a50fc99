"""Runs that train elsewhere, as the studio sees them."""

import time

import pytest

from rlhfv.ddpo.check import CheckReport
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.errors import NotFound, RunFailed
from rlhfv.publishing.token import SignInNeeded
from rlhfv.runs import leash
from rlhfv.runs.worker import Worker
from rlhfv.services import Actor
from rlhfv.services.memory import ELSEWHERE
from rlhfv.studio.runs_view import heading
from tests.runs.hub_worker import command

REPO = "ann/runs"


@pytest.fixture
def ann(hub, connect, services, ada):
    token = hub.user("ann")
    connect(token)
    services.publishing.sign_in(ada, token, "ann")
    return ada


@pytest.fixture
def run_id(services, ann, monkeypatch, picture):
    """A run that was frozen for another machine."""
    monkeypatch.setattr("rlhfv.services.training.check_run", lambda pairs, *_: CheckReport(1, (), seconds=65.0))
    monkeypatch.setattr(leash, "build_command", lambda _, folder: command("quick", folder))
    return services.training.start(ann, TrainingConfig(), "away", ELSEWHERE)


def work(services, actor):
    Worker(services.backends._runs(actor, REPO), services.settings.data_dir / "w", "box", beat=0.1, poll=0.05).work(
        True
    )


def test_a_run_for_another_machine_does_not_start_here(services, ann, run_id):
    assert services.training.run(ann, run_id).state == "stopped"
    assert services.training.local.start_next() is None


def test_the_studio_follows_a_run_that_is_elsewhere(services, ann, run_id):
    sent = services.backends.send(ann, run_id, REPO)
    assert sent.state == "queued" and sent.place is None
    assert f"Waits in {REPO} for a machine" in str(heading(sent, [], "Step"))
    assert services.training.local.start_next() is None
    with pytest.raises(RunFailed, match="cannot be deleted"):
        services.training.delete(ann, run_id)
    work(services, ann)
    [worker] = services.backends.workers(ann, REPO)
    assert worker.name == "box" and worker.about["cpus"]
    services.backends.refresh_soon(ann, run_id)
    services.backends.refresh_soon(ann, run_id)
    until = time.monotonic() + 20
    while services.training.run(ann, run_id).state != "done" and time.monotonic() < until:
        time.sleep(0.05)
    done = services.training.run(ann, run_id)
    assert done.state == "done" and done.has_adapter and done.step == 4
    assert [event["kind"] for event in services.training.events(ann, run_id)[0]][-1] == "done"
    services.training.delete(ann, run_id)


def test_stop_and_resume_reach_the_other_machine(services, ann, run_id):
    services.backends.send(ann, run_id, REPO)
    assert services.backends.stop(ann, run_id).state == "stopped"
    assert services.backends.resume(ann, run_id).state == "queued"
    with pytest.raises(RunFailed, match="queued"):
        services.backends.launch(ann, run_id, REPO, "t4-small", 3600)
    work(services, ann)
    assert services.backends.refresh(ann, run_id).state == "done"
    with pytest.raises(RunFailed, match="It is done"):
        services.backends.send(ann, run_id, REPO)


def test_only_who_is_signed_in_reaches_the_hub(services, run_id):
    stranger = Actor("c" * 32)
    with pytest.raises(SignInNeeded):
        services.backends.send(stranger, run_id, REPO)
    services.backends.refresh_soon(stranger, run_id)
    with pytest.raises(NotFound):
        services.backends.refresh(stranger, "20200101-000000-none")
