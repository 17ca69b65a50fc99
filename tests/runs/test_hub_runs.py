"""Runs in a private repository: workers are true processes, the Hub is the one of the tests."""

import os
import signal
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest

from rlhfv.errors import NotFound, RunFailed
from rlhfv.publishing.hub import Hub, HubRefused
from rlhfv.publishing.token import Token
from rlhfv.run_folder import RunFolder
from rlhfv.runs import hub_runs, leash
from rlhfv.runs.hub_runs import HubRuns
from rlhfv.runs.worker import Worker
from tests.runs import hub_worker

REPO = "ann/runs"
SCRIPT = Path(__file__).with_name("hub_worker.py")
ROOT = SCRIPT.parents[2]
PICTURE = b"a picture"
NAME = sha256(PICTURE).hexdigest() + ".png"
ROW = {"id": "a", "images": [NAME], "question": "q", "chosen": "c", "rejected": "r"}
CONFIG = {"kind": "training", "title": "a run", "base": {"name": "demo", "revision": "r1", "source": "demo"}}


@pytest.fixture
def token(hub):
    return hub.user("ann")


@pytest.fixture
def open_runs(hub, connect, token):
    connect(token)

    def open_runs(lease=600.0, secret=token):
        return HubRuns(Hub(Token(secret), hub.endpoint), REPO, lease, wait=lambda seconds: time.sleep(seconds / 20))

    return open_runs


@pytest.fixture
def runs(open_runs):
    return open_runs()


@pytest.fixture
def make_run(tmp_path):
    (tmp_path / NAME).write_bytes(PICTURE)

    def make_run(name="20260101-000000-abcd"):
        run = RunFolder(tmp_path / "own" / name)
        run.create({**CONFIG, "training": {}}, [ROW], tmp_path.joinpath)
        return run

    return make_run


@pytest.fixture
def start(hub, token, tmp_path):
    """`start(kind, name, lease)` starts a worker process."""
    started = []

    def start(kind, name="box", lease=600):
        environment = {**hub.environment(token, tmp_path / f"home-{name}"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, SCRIPT, kind, REPO, tmp_path / name, name, str(lease)]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )
        started.append(process)
        assert process.stdout.readline() == "here\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_until(look, seconds=30):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


def end(process, seconds=40):
    said, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, said
    return said


def test_a_run_goes_to_a_worker_and_comes_back(hub, runs, make_run, start, token):
    run = make_run()
    queued, commit = runs.send(run)
    assert (queued.state, queued.attempt, commit) == ("queued", 0, hub.commits(REPO, repo_type="model")[0].oid)
    assert hub.repo(REPO, "model").private
    said = end(start("quick"))
    assert f"{run.id}: done" in said
    done = runs.fetch(run.id, run)
    assert (done.state, done.worker, done.attempt, done.step, done.total_steps) == ("done", "box", 1, 4, 4)
    events = run.read_events()[0]
    assert [event["step"] for event in events if event["kind"] == "step"] == [1, 2, 3, 4]
    assert events[-1]["kind"] == "done" and run.read_results() == {"figures": {"steps": 4}}
    assert (run.adapter / "adapter_model.safetensors").read_bytes() == bytes(range(256)) * 40
    assert not any("checkpoint" in path for path in hub.paths(REPO, repo_type="model"))
    assert run.read_log() == [f"working in …/runs/{run.id}", "…"], "places and tokens of the worker stay there"
    [worker] = runs.workers()
    assert worker.name == "box" and worker.about["torch"] and worker.about["cpus"]
    assert hub.leaks == [] and hub.find(token, history=True) == []
    before = run.read_events()
    runs.fetch(run.id, run)
    assert run.read_events() == before, "fetched twice, there once"


def test_two_workers_never_take_the_same_run(hub, runs, make_run, start):
    run = make_run()
    runs.send(run)
    workers = [start("quick", name) for name in ("one", "two", "three")]
    said = [end(worker) for worker in workers]
    assert sum(f"{run.id}: done" in text for text in said) == 1
    assert runs.get(run.id).attempt == 1
    takes = [commit.title for commit in hub.commits(REPO, repo_type="model") if " takes " in commit.title]
    assert len(takes) == 1


def test_claims_at_the_same_moment(open_runs, runs, make_run):
    """Each of two runs goes to one of six claimers, and the others get none."""
    ids = {runs.send(make_run(name))[0].id for name in ("run-a", "run-b")}
    claimers, got = [open_runs() for _ in range(6)], []
    barrier = threading.Barrier(6)

    def claim(number):
        barrier.wait()
        got.append(claimers[number].claim(f"box-{number}"))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [run for run in got if run is not None]
    assert {run.id for run in taken} == ids and len(taken) == 2
    assert all(runs.get(run.id).claim == run.claim for run in taken)


def test_a_claim_whose_reply_got_lost_is_ours(hub, runs, make_run):
    run = make_run()
    runs.send(run)
    hub.fail(r"POST .*/commit/main", drop="reply")
    got = runs.claim("box")
    assert got.id == run.id and runs.get(run.id).claim == got.claim and got.attempt == 1


def test_a_worker_that_dies_gives_the_run_to_another(open_runs, make_run, start):
    runs, run = open_runs(lease=1.5), make_run()
    runs.send(run)
    first = start("middling", "first", 1.5)
    wait_until(lambda: runs.get(run.id).step >= 4)
    checkpoints = wait_until(lambda: [path for path in runs.hub._api.list_repo_files(REPO) if "trainer_state" in path])
    assert len(checkpoints) == 1, "one checkpoint at a time is there"
    first.kill()
    first.wait()
    assert runs.claim("too-early") is None
    wait_until(lambda: runs.is_lapsed(runs.get(run.id)))
    second = start("quick", "second", 1.5)
    assert f"{run.id}: done" in end(second)
    done = runs.fetch(run.id, run)
    assert (done.state, done.worker, done.attempt) == ("done", "second", 2)
    events = run.read_events()[0]
    begins = [event["resumed"] for event in events if event["kind"] == "state" and event["state"] == "running"]
    assert begins == [False, True], "it went on from the pushed checkpoint"


def test_a_worker_that_lost_its_claim_changes_nothing(open_runs, make_run):
    runs, run = open_runs(lease=0.3), make_run()
    runs.send(run)
    dead = runs.claim("dead")
    wait_until(lambda: runs.is_lapsed(runs.get(run.id)))
    alive = open_runs(lease=0.3).claim("alive")
    assert alive.attempt == 2
    assert runs.beat(dead, step=99) is None
    assert runs.get(run.id).claim == alive.claim and runs.get(run.id).step == 0


def test_cancel_keeps_a_checkpoint_and_resume_goes_on_from_it(runs, make_run, start):
    run = make_run()
    runs.send(run)
    worker = start("slow")
    wait_until(lambda: runs.get(run.id).step >= 2)
    assert runs.ask_stop(run.id).stop
    assert f"{run.id}: stopped" in end(worker)
    stopped = runs.get(run.id)
    assert stopped.state == "stopped" and not stopped.stop
    with pytest.raises(RunFailed, match="It is queued"):
        runs.resume(runs.resume(run.id).id)
    assert runs.ask_stop(run.id).state == "stopped", "a queued one is stopped at once"
    runs.resume(run.id)
    again = start("slow")
    wait_until(lambda: runs.get(run.id).step > stopped.step)
    again.send_signal(signal.SIGTERM)
    assert f"{run.id}: queued" in end(again), "a machine that goes down gives its run back"
    given = runs.fetch(run.id, run)
    assert (given.state, given.claim, given.attempt) == ("queued", "", 2)
    steps = [event["step"] for event in run.read_events()[0] if event["kind"] == "step"]
    assert steps == sorted(set(steps)), "no step was done twice"


@pytest.mark.parametrize(("kind", "words"), [("error", "The rate is 5. Lower it."), ("vanish", "about to vanish")])
def test_an_error_inside_is_told(runs, make_run, start, kind, words):
    run = make_run()
    runs.send(run)
    assert f"{run.id}: failed" in end(start(kind))
    failed = runs.fetch(run.id, run)
    assert failed.state == "failed" and words in failed.error
    assert run.read_events()[0][-1]["kind"] == "error"
    assert runs.resume(run.id).error == ""


@pytest.mark.slow
def test_a_hub_that_is_away_costs_no_result(hub, runs, make_run, start):
    run = make_run()
    runs.send(run)
    worker = start("middling")
    wait_until(lambda: runs.get(run.id).step >= 2)
    hub.stop()
    time.sleep(8)
    hub.start()
    assert f"{run.id}: done" in end(worker)
    runs.fetch(run.id, run)
    steps = [event["step"] for event in run.read_events()[0] if event["kind"] == "step"]
    assert steps == list(range(1, 61))


def test_what_cannot_be_sent_is_refused(hub, open_runs, runs, make_run, connect):
    run = make_run()
    with pytest.raises(NotFound, match="no repository ann/runs"):
        runs.look()
    with pytest.raises(HubRefused, match="token"):
        open_runs(secret=hub.user("ann", "read")).send(run)
    connect(hub.user("ann")).create_repo(REPO, private=False)
    with pytest.raises(RunFailed, match="is public"):
        runs.send(run)
    assert not any(NAME in path for path in hub.paths(REPO, repo_type="model"))


def test_a_worker_whose_token_may_not_write_says_so_and_takes_nothing(hub, open_runs, runs, make_run, tmp_path):
    run = make_run()
    runs.send(run)
    worker = Worker(open_runs(secret=hub.user("ann", "read")), tmp_path / "work", "box")
    with pytest.raises(HubRefused) as told:
        worker.work(once=True)
    assert "(403)" in told.value.what and "repo.write" in told.value.why and told.value.fix
    assert runs.get(run.id).state == "queued" and runs.workers() == []


def test_what_the_hub_does_not_take_at_the_end_stays_here(hub, runs, make_run, tmp_path, monkeypatch, caplog):
    """A token may be revoked while a run works for hours."""
    run, beat = make_run(), runs.beat
    runs.send(run)

    def refuse_the_end(given, operations=(), **changes):
        if changes.get("state") == "done":
            raise HubRefused("It was refused (401).", "The token is not valid any more.", "Sign in again.")
        return beat(given, operations, **changes)

    monkeypatch.setattr(runs, "beat", refuse_the_end)
    monkeypatch.setattr(leash, "build_command", lambda _, path, config=None: hub_worker.command("quick", path))
    worker = Worker(runs, tmp_path / "box", "box", beat=0.2, poll=0.1, tell=lambda text: None)
    with pytest.raises(HubRefused):
        worker.work(once=True)
    (kept,) = tmp_path.glob("*-kept/*")
    assert kept.name == run.id
    assert (kept / "adapter" / "adapter_model.safetensors").is_file()
    assert str(kept) in caplog.text
    assert not list((tmp_path / "box").glob("*/runs"))


def test_a_worker_at_work_is_seen_with_its_run(runs, make_run):
    run = make_run()
    runs.send(run)
    runs.greet("box", {"cpus": 2})
    assert [(worker.name, worker.run) for worker in runs.workers()] == [("box", "")]
    got = runs.claim("box")
    assert runs.workers()[0].run == "a run" and runs.workers()[0].seen >= runs.get(run.id).seen
    runs.beat(got, state="done")
    assert runs.workers()[0].run == ""


def test_a_run_is_there_once(runs, make_run):
    run = make_run()
    runs.send(run)
    with pytest.raises(RunFailed, match="is queued in ann/runs"):
        runs.send(run)
    got = runs.claim("box")
    assert runs.claim("other") is None
    assert runs.beat(got, state="done").state == "done"
    assert runs.claim("other") is None
    with pytest.raises(RunFailed, match="It is done"):
        runs.resume(run.id)
    assert runs.send(run)[0].attempt == 1
    with pytest.raises(NotFound):
        runs.get("20200101-000000-none")


def test_a_reserved_run_waits_for_its_own_worker(runs, make_run):
    run = make_run()
    runs.send(run, reserved=hub_runs.JOB)
    assert runs.claim("box") is None
    assert runs.claim("job", run.id).id == run.id


def test_looking_again_asks_little(hub, runs, make_run):
    runs.send(make_run())
    runs.look()
    before = len(hub.requests)
    runs.look()
    assert len(hub.requests) - before == 1
    runs.look(seconds=60)
    assert len(hub.requests) - before == 1
    assert os.environ["HF_TOKEN"] not in str(hub.requests)
