"""Runs as jobs, against the Hub of the tests, whose jobs are processes of this machine."""

import pytest

from rlhfv.errors import InvalidData
from rlhfv.models.catalog import find_entry
from rlhfv.models.identity import folder_identity
from rlhfv.publishing.hub import HubBusy, HubRefused
from rlhfv.run_folder import RunFolder
from rlhfv.runs import hub_jobs
from rlhfv.runs.hub_jobs import HubJobs
from tests.runs.test_hub_runs import REPO, ROOT, SCRIPT, make_run, open_runs, runs, token, wait_until

__all__ = ["make_run", "open_runs", "runs", "token"]

STARTS = r"POST /api/jobs/ann$"


@pytest.fixture
def jobs(runs):
    return HubJobs(runs, wait=lambda seconds: None)


@pytest.fixture
def inside(monkeypatch):
    """`inside(kind)`: which of the small trainers works in the job, in the place of the installed package."""

    def inside(kind):
        command = f'PYTHONPATH={ROOT} exec python {SCRIPT} {kind} "$0" work box 600 "$4"'
        monkeypatch.setattr(hub_jobs, "_COMMAND", command)

    inside("quick")
    return inside


def finish(jobs, run_id, seconds=60):
    def look():
        run = jobs.follow(run_id)
        return run if run.state in ("done", "failed", "stopped") else None

    return wait_until(look, seconds)


def test_a_run_goes_to_a_job_and_comes_back(hub, jobs, runs, make_run, inside, token):
    run = make_run()
    started = jobs.launch(run, "cpu-basic", 3600)
    [job] = hub.jobs.all
    assert started.job == job.id and job.owner == "ann"
    assert job.spec["timeoutSeconds"] == 3600 and job.spec["flavor"] == "cpu-basic"
    assert job.spec["dockerImage"].startswith("python:3.")
    assert job.spec["labels"]["run"] == run.id and job.secrets == {"HF_TOKEN": token}
    assert runs.claim("box") is None, "no other worker may take it"
    said = list(jobs.logs(started))
    assert said[0] == "here" and said[-1] == f"{run.id}: done"
    assert finish(jobs, run.id).state == "done"
    runs.fetch(run.id, run)
    assert (run.adapter / "adapter_model.safetensors").exists()
    assert hub.leaks == [] and hub.find(token, history=True) == []
    assert token not in str(job.spec) and token not in repr(hub.jobs.all)


@pytest.mark.parametrize("drop", [pytest.param("reply", marks=pytest.mark.slow), "after"])
def test_a_lost_reply_starts_no_second_job(hub, jobs, make_run, inside, drop):
    run = make_run()
    fault = hub.fail(STARTS, drop=drop)
    started = jobs.launch(run, "cpu-basic", 3600)
    assert fault.hits == 1 and len(hub.jobs.all) == 1 == len(hub.requests_to(STARTS))
    assert started.job == hub.jobs.all[0].id
    assert finish(jobs, run.id).state == "done"


@pytest.mark.parametrize("again", [pytest.param("launch", marks=pytest.mark.slow), "follow"])
def test_a_start_that_never_answered_is_found_by_the_next_process(hub, open_runs, jobs, make_run, inside, again):
    run, looks, look = make_run(), [], jobs._list
    hub.jobs.scheduling = 1.5

    def look_once(labels):
        looks.append(labels)
        if len(looks) > 2:  # the first asks for the right, the second whether there is a job
            raise HubBusy("The look for the job did not work.", "It cannot be reached.", "Try again.")
        return look(labels)

    jobs._list = look_once
    hub.fail(STARTS, drop="reply")
    with pytest.raises(HubBusy):
        jobs.launch(run, "cpu-basic", 3600)
    later = HubJobs(open_runs(), wait=lambda seconds: None)
    found = later.launch(run, "cpu-basic", 3600) if again == "launch" else later.follow(run.id)
    assert found.job == hub.jobs.all[0].id
    assert finish(later, run.id).state == "done" and len(hub.jobs.all) == 1


def test_a_token_that_may_not_start_jobs(hub, open_runs, make_run):
    secret = hub.user("ann", {"ann": ["repo.write"]})
    jobs, run = HubJobs(open_runs(secret=secret)), make_run()
    with pytest.raises(HubRefused) as told:
        jobs.launch(run, "cpu-basic", 3600)
    assert "(403)" in told.value.what and "job.write" in told.value.why and told.value.fix
    assert hub.jobs.all == [] and not jobs.runs.exists(), "nothing was sent for a job that will not come"


def test_an_account_without_credit_and_what_comes_after(hub, jobs, runs, make_run, inside, token):
    run = make_run()
    hub.jobs.broke.add("ann")
    with pytest.raises(HubRefused) as told:
        jobs.launch(run, "cpu-basic", 3600)
    assert "(402)" in told.value.what and "no credit" in told.value.why and "Add credit" in told.value.fix
    assert runs.get(run.id).state == "stopped"
    hub.jobs.broke.clear()
    jobs.launch(run, "cpu-basic", 3600)
    assert finish(jobs, run.id).state == "done" and len(hub.jobs.all) == 1


@pytest.mark.parametrize(("kind", "words"), [("error", "The rate is 5. Lower it."), ("vanish", "about to vanish")])
def test_an_error_inside_the_run(jobs, make_run, inside, kind, words):
    inside(kind)
    run = make_run()
    jobs.launch(run, "cpu-basic", 3600)
    failed = finish(jobs, run.id)
    assert failed.state == "failed" and words in failed.error


def test_an_error_before_the_run(jobs, make_run, monkeypatch):
    monkeypatch.setattr(hub_jobs, "_COMMAND", "echo there is no such package; exit 3")
    run = make_run()
    jobs.launch(run, "cpu-basic", 3600)
    failed = finish(jobs, run.id)
    assert failed.state == "failed"
    assert "exit code: 3" in failed.error and "there is no such package" in failed.error


def test_the_timeout_of_the_hub(jobs, make_run, inside):
    inside("slow")
    run = make_run()
    jobs.launch(run, "cpu-basic", 3)
    failed = finish(jobs, run.id)
    assert failed.state == "failed" and "timeout" in failed.error


def test_stop_keeps_a_checkpoint_and_resume_makes_a_new_job(hub, jobs, runs, make_run, inside):
    inside("middling")
    run = make_run()
    jobs.launch(run, "cpu-basic", 3600)
    wait_until(lambda: runs.get(run.id).step >= 2)
    assert jobs.stop(run.id).stop
    stopped = finish(jobs, run.id)
    assert stopped.state == "stopped"
    wait_until(lambda: hub.jobs.all[0].stage == "COMPLETED")
    resumed = jobs.resume(run.id, "t4-small", 3600)
    assert resumed.job == hub.jobs.all[0].id != stopped.job
    assert finish(jobs, run.id).state == "done" and len(hub.jobs.all) == 2
    runs.fetch(run.id, run)
    steps = [event["step"] for event in run.read_events()[0] if event["kind"] == "step"]
    assert steps == list(range(1, 61)), "it went on from the pushed checkpoint"


def test_cancel_before_it_began_and_asked_twice(hub, jobs, runs, make_run, inside):
    inside("slow")
    hub.jobs.scheduling = 60
    run = make_run()
    jobs.launch(run, "cpu-basic", 3600)
    assert jobs.stop(run.id).state == "stopped" and hub.jobs.all[0].stage == "CANCELED"
    hub.jobs.scheduling = 0
    jobs.resume(run.id, "cpu-basic", 3600)
    wait_until(lambda: runs.get(run.id).state == "running")
    jobs.stop(run.id)
    ended = jobs.stop(run.id)
    assert ended.state == "stopped" and hub.jobs.all[0].stage in ("CANCELED", "COMPLETED")


def test_the_log_survives_a_broken_connection(hub, jobs, make_run, monkeypatch):
    monkeypatch.setattr(hub_jobs, "_COMMAND", "for n in 1 2 3 4 5 6 7 8; do echo line $n; sleep 0.1; done")
    started = jobs.launch(make_run(), "cpu-basic", 3600)
    fault = hub.fail(r"GET .*/logs", drop="after", times=2)
    assert list(jobs.logs(started)) == [f"line {number}" for number in range(1, 9)]
    assert fault.hits == 2
    assert list(jobs.logs(started, follow=False))[-1] == "line 8"


def test_prices_and_estimates(jobs):
    flavors = jobs.flavors()
    assert [flavor.name for flavor in flavors] == ["cpu-basic", "t4-small", "l4x1", "a100-large"]
    l4 = hub_jobs.find_flavor(flavors, "l4x1")
    assert l4.price == pytest.approx(0.8, rel=1e-3) and "24 GB" in l4.title
    told = hub_jobs.estimate(l4, operations=121e12 * 1800, used_share=0.5)
    assert told.seconds == 3600 + hub_jobs.SETUP_SECONDS
    assert told.timeout == 2 * told.seconds and told.most == pytest.approx(2 * told.cost)
    assert told.cost == pytest.approx(0.8 * told.seconds / 3600, rel=1e-3)
    small = hub_jobs.estimate(l4, 1e12, 0.5)
    assert small.timeout == hub_jobs.SHORTEST_TIMEOUT
    unknown = hub_jobs.estimate(flavors[0], 1e15, 0.5)
    assert (unknown.seconds, unknown.cost) == (0, 0) and unknown.most > 0
    with pytest.raises(InvalidData, match="l4x1"):
        hub_jobs.find_flavor(flavors, "h9000")


@pytest.mark.slow
def test_a_true_training_run_in_a_job(hub, jobs, runs, tmp_path, token):
    """The wheel is installed, and the trainer is the true one."""
    from rlhfv.ddpo.config import TrainingConfig
    from tests.runs.test_training_run import make_pairs, steps_of

    images = tmp_path / "images"
    images.mkdir()
    base = {"name": "demo", "revision": folder_identity(find_entry("demo").source).revision, "source": "demo"}
    training = TrainingConfig(steps=6, batch_size=4, eval_fraction=0.0).to_dict()
    run = RunFolder(tmp_path / "own" / "20260101-000000-abcd")
    rows = [pair.to_row() for pair in make_pairs(images, 8)]
    run.create({"kind": "training", "title": "true", "base": base, "training": training}, rows, images.joinpath)

    started = jobs.launch(run, "cpu-basic", 3600)
    said = list(jobs.logs(started))
    assert f"{run.id}: done" in said, said
    done = finish(jobs, run.id, 300)
    assert (done.state, done.step) == ("done", 6), (done.error, said)
    runs.fetch(run.id, run)
    assert steps_of(run)[-1] == 6
    said = [event["what"] for event in run.read_events()[0] if event["kind"] == "warn" and "what" in event]
    assert not any("trains with rlhfv" in what for what in said), "the job has the version it was sent with"
    assert (run.adapter / "adapter_model.safetensors").exists()
    for file in [run.events_file, run.log_file, *run.adapter.rglob("*")]:
        data = file.read_bytes()
        assert str(hub.jobs.folder).encode() not in data and token.encode() not in data, file
    assert hub.leaks == [] and hub.find(token, history=True) == []
    assert hub.paths(REPO, repo_type="model").count("requirements.txt") == 1
