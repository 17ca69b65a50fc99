"""Runs that train elsewhere, as the studio sees them."""

import time

import pytest

from rlhfv.ddpo.check import CheckReport
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.errors import InvalidData, NotFound, RunFailed
from rlhfv.publishing.hub import HubBusy, HubRefused
from rlhfv.publishing.token import SignInNeeded
from rlhfv.runs import leash
from rlhfv.runs.bundle import BaseStaysHere
from rlhfv.runs.hub_runs import HubRuns
from rlhfv.runs.worker import Worker
from rlhfv.services import Actor
from rlhfv.services.backends import Place
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
    monkeypatch.setattr("rlhfv.services.training.check_run", lambda pairs, *_, **__: CheckReport(1, (), seconds=65.0))
    monkeypatch.setattr(leash, "build_command", lambda _, folder, config=None: command("quick", folder))
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


def test_a_worker_of_another_version_says_so(services, ann, run_id, monkeypatch):
    services.backends.send(ann, run_id, REPO)
    monkeypatch.setattr("rlhfv.runs.bundle._version", lambda sources: "9.9")
    work(services, ann)
    done = services.backends.refresh(ann, run_id)
    [warning] = [event for event in services.training.events(ann, run_id)[0] if event["kind"] == "warn"]
    assert done.state == "done" and "trains with rlhfv 9.9" in warning["what"]
    assert (
        f"hf download {REPO} rlhfv-" in warning["fix"] and "pip install -r bundle/requirements.txt" in warning["fix"]
    )


# ---- from the question to the run


@pytest.fixture
def base_here(services, monkeypatch, tmp_path):
    """A base that is a folder of this machine."""
    folder = tmp_path / "my-base"
    folder.mkdir()
    for name, size in (("config.json", 20), ("model.safetensors", 5000)):
        (folder / name).write_bytes(b"{}".ljust(size))
    monkeypatch.setattr(services.host, "base_path", lambda *_: folder)
    return folder


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.setattr("rlhfv.services.training.check_run", lambda pairs, *_, **__: CheckReport(1, (), seconds=65.0))
    monkeypatch.setattr("rlhfv.services.backends.Backends._operations", lambda *_: (65e12 * 1500, 0.5))


def test_what_one_has_to_agree_to_is_known_before_anything_is_frozen(services, hub, ann, measured, base_here, connect):
    config = TrainingConfig()
    plan = services.backends.plan(ann, REPO, config)
    assert (plan.base_size, plan.offers) == (5020, ())
    offers = {offer.flavor.name: offer for offer in services.backends.plan(ann, REPO, config, job=True).offers}
    assert offers["t4-small"].estimate.seconds == 3300 and offers["l4x1"].flavor.price == pytest.approx(0.8, rel=1e-3)
    with pytest.raises(InvalidData, match="owner and a name"):
        services.backends.plan(ann, "runs", config)
    connect(hub.user("ann")).create_repo("ann/open", private=False)
    with pytest.raises(RunFailed, match="is public"):
        services.backends.plan(ann, "ann/open", config)
    services.publishing.sign_in(ann, hub.user("ann", {"ann": ["repo.write"]}))
    with pytest.raises(HubRefused, match=r"job\.write"):
        services.backends.plan(ann, REPO, config, job=True)
    assert services.training.runs(ann) == [] and list(hub.storage.repos) == ["models/ann/open"]


def test_a_base_of_this_machine_leaves_it_only_when_that_was_agreed(services, hub, ann, measured, base_here):
    with pytest.raises(BaseStaysHere, match="a folder of this machine"):
        services.backends.start(ann, TrainingConfig(), Place(REPO))
    assert services.training.runs(ann) == [] and not hub.storage.repos, "nothing is left of it"
    sent = services.backends.start(ann, TrainingConfig(), Place(REPO, with_base=True), "with its base")
    assert (sent.state, sent.title) == ("queued", "with its base")
    assert any(path.endswith("model.safetensors") for path in hub.paths(REPO, repo_type="model"))
    again = services.backends.start(ann, TrainingConfig(epochs=9), Place(REPO, with_base=True), copy_of=sent.id)
    assert again.state == "queued" and again.parent == sent.id and again.config["training"]["epochs"] == 9


def test_a_job_that_is_refused_leaves_a_run_that_can_be_resumed(services, hub, ann, measured, monkeypatch):
    monkeypatch.setattr("rlhfv.runs.hub_jobs._COMMAND", "sleep 60")
    hub.jobs.broke.add("ann")
    place = Place(REPO, "t4-small", timeout=600, image="me/image:1")
    with pytest.raises(HubRefused, match="402"):
        services.backends.start(ann, TrainingConfig(), place)
    [refused] = services.training.runs(ann)
    assert refused.state == "stopped" and refused.remote["reserved"] and hub.jobs.all == []
    with pytest.raises(RunFailed, match="was a job"):
        services.backends.resume(ann, refused.id)
    hub.jobs.broke.clear()
    resumed = services.backends.resume(ann, refused.id, "l4x1", 900, "me/image:2")
    [job] = hub.jobs.all
    assert resumed.state == "queued" and resumed.remote["job"] == job.id
    assert (job.spec["flavor"], job.spec["timeoutSeconds"], job.spec["dockerImage"]) == ("l4x1", 900, "me/image:2")
    services.backends.stop(ann, refused.id)
    services.backends.resume(ann, refused.id, "l4x1")
    spec = hub.jobs.all[0].spec
    assert (spec["timeoutSeconds"], spec["dockerImage"]) == (900, "me/image:2"), (
        "as its last start, if nothing is named"
    )
    services.backends.stop(ann, refused.id)


def lose(monkeypatch, *names):
    """The Hub is away from one of these calls on."""

    def away(*_, **__):
        raise HubBusy("The Hub.", "It cannot be reached.", "Try again.")

    def first(*_, **__):
        monkeypatch.setattr(HubRuns, "look", away)
        away()

    for name in names:
        monkeypatch.setattr(HubRuns, name, first)


def test_a_job_whose_start_nobody_could_confirm_counts_as_queued_there(services, hub, ann, measured, monkeypatch):
    """It may be paid for: it must not begin here, and no second one may be made of it."""
    monkeypatch.setattr("rlhfv.runs.hub_jobs._COMMAND", "sleep 60")
    monkeypatch.setattr("rlhfv.runs.hub_jobs.STARTS", 1)
    with monkeypatch.context() as patch:
        lose(patch, "note_job")
        with pytest.raises(HubBusy):
            services.backends.start(ann, TrainingConfig(), Place(REPO, "t4-small", timeout=600))
    [run] = services.training.runs(ann)
    assert run.state == "queued" and run.remote["repo"] == REPO and run.remote["reserved"]
    assert services.training.local.start_next() is None
    with pytest.raises(RunFailed, match="cannot be deleted"):
        services.training.delete(ann, run.id)
    [job] = hub.jobs.all
    assert services.backends.refresh(ann, run.id).remote["job"] == job.id
    assert services.backends.stop(ann, run.id).state == "stopped" and job.stage == "CANCELED"
    assert services.training.run(ann, run.id).remote["timeout"] == 600


@pytest.mark.parametrize("flavor", ["", "t4-small"])
@pytest.mark.parametrize("act", ["refresh", "stop"])
def test_a_run_that_never_arrived_is_one_of_this_machine_again(services, hub, ann, measured, monkeypatch, act, flavor):
    with monkeypatch.context() as patch:
        lose(patch, "send")
        patch.setattr("rlhfv.runs.hub_jobs.HubJobs._find_queued", lambda *_: (None, ""))
        with pytest.raises(HubBusy):
            services.backends.start(ann, TrainingConfig(), Place(REPO, flavor, timeout=600))
    [run] = services.training.runs(ann)
    assert run.state == "queued" and run.remote["repo"] == REPO
    back = getattr(services.backends, act)(ann, run.id)
    assert back.state == "stopped" and back.remote == {}
    services.training.delete(ann, run.id)


def test_who_does_not_see_the_repository_cannot_tell_that_nothing_arrived(services, hub, ann, measured, monkeypatch):
    with monkeypatch.context() as patch:
        lose(patch, "send")
        with pytest.raises(HubBusy):
            services.backends.start(ann, TrainingConfig(), Place(REPO))
    services.publishing.sign_in(ann, hub.user("eve"))
    [run] = services.training.runs(ann)
    with pytest.raises(NotFound):
        services.backends.refresh(ann, run.id)
    assert services.training.run(ann, run.id).state == "queued"


def test_a_copy_is_reckoned_on_the_base_that_it_was_frozen_with(services, ann, measured, base_here, monkeypatch):
    first = services.backends.start(ann, TrainingConfig(), Place(REPO, with_base=True))
    checked = []

    def check(pairs, config, entry, *_, **__):
        checked.append(entry.source)
        return CheckReport(1, ())

    monkeypatch.setattr("rlhfv.services.training.check_run", check)
    monkeypatch.setattr(services.host, "base_path", lambda *_: None)  # another base is chosen by now
    services.backends.plan(ann, REPO, TrainingConfig(), first.id, job=True)
    services.training.check(ann, TrainingConfig(), first.id)
    services.backends.offers(ann, REPO, first.id)
    assert checked == [str(base_here)] * 3


def test_trouble_is_told_to_whoever_the_run_is_of(services, ann, run_id, bob, monkeypatch):
    services.backends._trouble[run_id] = "ann/secret is away."
    assert services.backends.trouble(ann, run_id)
    monkeypatch.setattr(services.training, "_visible", lambda actor, run: actor == ann)
    with pytest.raises(NotFound):
        services.backends.trouble(bob, run_id)


def test_a_hub_that_does_not_answer_is_told(services, hub, ann, run_id, monkeypatch):
    services.backends.send(ann, run_id, REPO)
    monkeypatch.setattr("rlhfv.runs.hub_repo.TRIES", 1)
    hub.stop()
    services.backends.refresh_soon(ann, run_id)
    until = time.monotonic() + 20
    while not services.backends.trouble(ann, run_id) and time.monotonic() < until:
        time.sleep(0.05)
    assert "It cannot be reached" in services.backends.trouble(ann, run_id)
    hub.start()
