"""A run's state is true whatever dies: the worker, the launcher above it, the studio."""

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from rlhfv.errors import InvalidData, NotFound, RunFailed
from rlhfv.run_folder import RunFolder
from rlhfv.runs import local, processes
from rlhfv.runs.local import LocalRuns
from rlhfv.runs.state import ALIVE
from rlhfv.runs.supervisor import Supervisor

WORKERS = Path(__file__).with_name("workers.py")
CONFIG = {
    "kind": "training",
    "title": "a run",
    "base": {"name": "demo", "revision": "r1", "source": "demo"},
    "training": {},
}
ROW = {"id": "a", "images": [], "question": "q", "chosen": "c", "rejected": "r"}


@pytest.fixture
def work(monkeypatch):
    """Sets which of the small workers does the work of every run."""

    def choose(kind):
        command = lambda _, folder: [sys.executable, str(WORKERS), kind, str(folder)]  # noqa: E731
        monkeypatch.setattr(local, "build_command", command)

    choose("quick")
    return choose


@pytest.fixture
def runs(tmp_path, work):
    runs = LocalRuns(tmp_path / "data")
    yield runs
    for run in runs.list():
        process = runs._record(run.id).process
        if process and process.is_alive():
            process.signal(signal.SIGKILL)


def start(runs, **fields):
    return runs.start({**CONFIG, **fields}, [ROW], lambda name: None)


def wait_for(runs, run_id, *states, seconds=20):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        run = runs.get(run_id)
        if run.state in states:
            return run
        time.sleep(0.02)
    raise AssertionError(f"{run.state}, not {states}: {run.lines}")


def kill(runs, run_id, number=signal.SIGKILL):
    os.killpg(runs._record(run_id).process.pid, number)


def test_a_run_goes_from_start_to_done(runs):
    run = start(runs)
    assert run.state in ("starting", "running", "done")
    run = wait_for(runs, run.id, "done")
    assert (run.step, run.total_steps, run.progress, run.lines) == (2, 2, 1.0, ("step 1", "step 2"))
    assert run.title == "a run" and run.config["versions"]["python"] and run.config["created"] == run.created
    assert json.dumps(run.to_dict())
    assert [other.id for other in LocalRuns(runs.data_dir).list()] == [run.id]


def test_nothing_in_the_folder_names_this_machine(runs, tmp_path):
    run = runs.start(CONFIG, [ROW], lambda name: None, base_path=tmp_path)
    wait_for(runs, run.id, "done")
    for file in runs.open(run.id).path.rglob("*"):
        if file.is_file():
            assert str(tmp_path) not in file.read_text(), file
            assert str(os.getpid()) not in file.name


def test_the_worker_is_told_where_a_local_base_lives(runs, work, tmp_path):
    work("environment")
    with_folder = runs.start(CONFIG, [], lambda name: None, base_path=tmp_path)
    wait_for(runs, with_folder.id, "done")
    other = start(runs, base={"name": "org/model", "revision": "r2", "source": "org/model"})
    wait_for(runs, other.id, "done")
    assert (runs.open(with_folder.id).path / "seen.txt").read_text() == str(tmp_path.resolve())
    assert (runs.open(other.id).path / "seen.txt").read_text() == "none"
    assert LocalRuns(runs.data_dir).base_path(with_folder.config) == tmp_path.resolve()


def test_a_killed_worker_shows_as_failed_with_its_last_lines(runs, work):
    work("slow")
    run = wait_for(runs, start(runs).id, "running")
    assert runs.get(run.id).state == "running"
    time.sleep(0.2)
    kill(runs, run.id)
    run = wait_for(runs, run.id, "failed")
    assert run.lines[-1].startswith("step ") and "without a word" in run.error and run.step > 0
    assert LocalRuns(runs.data_dir).get(run.id).state == "failed"


def test_a_worker_that_vanishes_or_says_why(runs, work):
    work("silent")
    run = wait_for(runs, start(runs).id, "failed")
    assert "about to vanish" in run.error
    work("error")
    run = wait_for(runs, start(runs).id, "failed")
    assert run.error == "The loss is not a number. The rate is 5. Lower it."


@pytest.mark.parametrize("kind", ["slow", "launched"])
def test_stop_keeps_a_checkpoint_and_resume_goes_on(runs, work, kind):
    work(kind)
    run = wait_for(runs, start(runs).id, "running")
    assert runs.stop(run.id).state in ("stopping", "stopped")
    run = wait_for(runs, run.id, "stopped")
    folder = runs.open(run.id)
    [checkpoint] = folder.list_checkpoints()
    reached = int(checkpoint.name.removeprefix("checkpoint-"))
    assert run.step == reached
    runs.resume(run.id)
    wait_for(runs, run.id, "running")
    time.sleep(0.2)
    steps = [event["step"] for event in folder.read_events()[0] if event["kind"] == "step"]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > reached
    runs.stop(run.id)
    wait_for(runs, run.id, "stopped")


def test_a_dead_launcher_above_a_live_trainer_is_a_live_run(runs, work):
    work("launched")
    run = wait_for(runs, start(runs).id, "running")
    os.kill(runs._record(run.id).process.pid, signal.SIGKILL)
    time.sleep(0.3)
    assert LocalRuns(runs.data_dir).get(run.id).state == "running"
    with pytest.raises(RunFailed):
        runs.delete(run.id)
    kill(runs, run.id)
    wait_for(runs, run.id, "failed")


def test_stopped_before_its_first_word_is_stopped(runs, work):
    work("slow")
    run = start(runs)
    runs.stop(run.id)
    assert wait_for(runs, run.id, "stopped").error == ""


def test_a_worker_that_ignores_the_stop_is_killed_when_asked_again(runs, monkeypatch):
    ignore = "import signal, time; signal.signal(15, lambda *_: None); print('deaf', flush=True); time.sleep(60)"
    monkeypatch.setattr(local, "build_command", lambda kind, folder: [sys.executable, "-c", ignore])
    monkeypatch.setattr(local, "SECONDS_UNTIL_KILL", 0.2)
    run = start(runs)
    while not runs.get(run.id).lines:
        time.sleep(0.02)
    assert runs.stop(run.id).state == "stopping"
    time.sleep(0.3)
    assert runs.get(run.id).state == "stopping"
    runs.stop(run.id)
    wait_for(runs, run.id, "stopped", seconds=5)


def test_one_at_a_time_in_the_order_of_asking(runs, work):
    work("slow")
    first = start(runs)
    work("count")
    second, third, fourth = start(runs), start(runs), start(runs)
    assert [runs.get(run.id).place for run in (first, second, third, fourth)] == [None, 1, 2, 3]
    assert runs.get(second.id).state == "queued"
    runs.stop(third.id)
    assert runs.get(third.id).state == "stopped" and runs.get(fourth.id).place == 2
    runs.resume(third.id)
    assert runs.get(third.id).place == 3
    supervisor = Supervisor(runs, 0.02).start()
    runs.stop(first.id)
    wait_for(runs, third.id, "done")
    supervisor.close()
    assert (runs.folder / "starts.txt").read_text().split() == [second.id, fourth.id, third.id]


def test_a_broken_run_does_not_block_the_queue(runs, work):
    work("slow")
    first = start(runs)
    broken, good = start(runs), start(runs)
    runs.open(broken.id).config_file.write_text("{")
    work("quick")
    runs.stop(first.id)
    wait_for(runs, first.id, "stopped")
    assert runs.start_next() == good.id
    wait_for(runs, good.id, "done")
    assert {run.id: run.state for run in runs.list()}[broken.id] == "failed"
    runs.delete(broken.id)
    assert len(runs.list()) == 2


def test_what_cannot_be_done_is_refused(runs, work):
    run = wait_for(runs, start(runs).id, "done")
    with pytest.raises(RunFailed, match="It is done"):
        runs.resume(run.id)
    with pytest.raises(RunFailed, match="neither adapter nor model"):
        runs.export(run.id, runs.data_dir / "out")
    for act in (runs.get, runs.stop, runs.resume, runs.delete, runs.duplicate):
        with pytest.raises(NotFound):
            act("20200101-000000-none")
        with pytest.raises(InvalidData):
            act("../data")
    work("slow")
    run = wait_for(runs, start(runs).id, "running")
    with pytest.raises(RunFailed, match="Stop it"):
        runs.delete(run.id)
    with pytest.raises(RunFailed, match="It is running"):
        runs.resume(run.id)
    runs.stop(run.id)
    wait_for(runs, run.id, "stopped")
    runs.delete(run.id)
    with pytest.raises(NotFound):
        runs.get(run.id)


def test_what_a_full_tuning_made_is_seen_and_given(runs, tmp_path):
    run = wait_for(runs, start(runs).id, "done")
    folder = runs.open(run.id)
    folder.model.mkdir()
    (folder.model / "config.json").write_text("{}")
    made = runs.get(run.id)
    assert (made.has_adapter, made.has_model) == (False, True) and made.to_dict()["has_model"]
    for merge in (False, True):
        given = runs.export(run.id, tmp_path / f"given-{merge}", merge)
        assert [path.name for path in given.iterdir()] == ["config.json"]


def test_a_folder_that_came_from_elsewhere_is_a_run(runs):
    folder = RunFolder(runs.folder / "from-a-friend")
    folder.create({**CONFIG, "created": "2020"}, [ROW], lambda name: None)
    assert runs.get(folder.id).state == "stopped"
    folder.append_event("step", step=1, total_steps=4)
    assert runs.get(folder.id).state == "failed"
    claim = folder.claim()
    assert (runs.get(folder.id).state, runs.get(folder.id).progress) == ("running", 0.25)
    waiting = start(runs)
    assert waiting.state in (*ALIVE, "done")  # what is started by hand is outside the queue
    runs.stop(folder.id)
    assert folder.stop_file.exists()
    folder.append_event("state", state="stopping")
    assert runs.get(folder.id).state == "stopping"
    os.close(claim)
    folder.append_event("done")
    assert runs.get(folder.id).state == "done"


def test_a_duplicate_has_the_pairs_and_new_settings(runs):
    first = runs.start(
        {**CONFIG, "kind": "evaluation", "evaluation": {"scenes": 500, "voices": []}}, [ROW], lambda name: None
    )
    second = runs.duplicate(first.id, {"scenes": 5})
    assert second.config["evaluation"] == {"scenes": 5, "voices": []} and second.parent == first.id
    assert runs.open(second.id).read_rows() == [ROW] and second.id != first.id
    wait_for(runs, first.id, "done")


def test_a_pid_that_another_process_got_is_not_ours(runs, work):
    work("slow")
    run = wait_for(runs, start(runs).id, "running")
    process = runs._record(run.id).process
    assert process.is_alive()
    assert not processes.Process(process.pid, process.started[:-1] + "x").is_alive()
    assert not processes.Process(process.pid, "another boot/1").is_alive()
    assert processes.start_mark(2**22 + 1) is None


def test_ps_tells_the_same_where_there_is_no_proc(runs, work, monkeypatch):
    work("launched")
    run = wait_for(runs, start(runs).id, "running")
    pid = runs._record(run.id).process.pid
    monkeypatch.setattr(processes.sys, "platform", "darwin")
    process = processes.Process(pid, processes.start_mark(pid))
    assert process.is_alive() and processes.start_mark(2**22 + 1) is None
    os.kill(pid, signal.SIGKILL)
    runs._children[0].wait()
    assert process.is_alive(), "the trainer below lives"
    os.killpg(pid, signal.SIGKILL)
    until = time.monotonic() + 5
    while process.is_alive() and time.monotonic() < until:
        time.sleep(0.02)
    assert not process.is_alive()


def test_the_state_is_read_while_the_queue_is_locked(runs):
    run = wait_for(runs, start(runs).id, "done")
    with runs._locked():
        assert LocalRuns(runs.data_dir).get(run.id).state == "done"


def studio(data_dir, kind, ready):
    local.build_command = lambda _, folder: [sys.executable, str(WORKERS), kind, str(folder)]
    runs = LocalRuns(data_dir)
    start(runs)
    start(runs)
    ready.set()
    Supervisor(runs, 0.01).start()
    time.sleep(60)


def test_kill_9_of_the_studio_leaves_the_worker_and_a_true_state(runs):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    app = context.Process(target=studio, args=(runs.data_dir, "slow", ready))
    app.start()
    assert ready.wait(20)
    second, first = runs.list()
    wait_for(runs, first.id, "running")
    app.kill()
    app.join()
    restarted = LocalRuns(runs.data_dir)
    before = restarted.get(first.id)
    assert before.state == "running" and restarted.get(second.id).state == "queued"
    time.sleep(0.3)
    assert restarted.get(first.id).step > before.step
    with Path(restarted.records / "lock").open("a") as file:  # the dead studio's lock is free
        local.fcntl.flock(file, local.fcntl.LOCK_EX | local.fcntl.LOCK_NB)
    restarted.stop(first.id)
    wait_for(restarted, first.id, "stopped")
    assert restarted.start_next() == second.id
    wait_for(restarted, second.id, "done")


def test_a_studio_killed_while_it_starts_a_run_leaves_no_worker(runs, tmp_path):
    gate = processes.Gate([sys.executable, "-c", "open('ran', 'w')"], tmp_path, tmp_path / "log", dict(os.environ))
    gate.popen.stdin.close()  # what the system does when the studio dies
    assert gate.popen.wait(10) == 1 and not (tmp_path / "ran").exists()
    assert "ended while it started" in (tmp_path / "log").read_text()


def race(data_dir, barrier):
    local.build_command = lambda _, folder: [sys.executable, str(WORKERS), "count", str(folder)]
    runs = LocalRuns(data_dir)
    barrier.wait()
    until = time.monotonic() + 30
    while time.monotonic() < until and any(run.state != "done" for run in runs.list()):
        runs.start_next()


def test_racing_supervisors_start_each_run_once(runs, work, monkeypatch):
    monkeypatch.setattr(LocalRuns, "start_next", lambda self: None)
    expected = [start(runs).id for _ in range(5)]
    monkeypatch.undo()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    racers = [context.Process(target=race, args=(runs.data_dir, barrier)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(40)
        assert racer.exitcode == 0
    assert (runs.folder / "starts.txt").read_text().split() == expected
    assert [run.state for run in runs.list()] == ["done"] * 5


def test_the_training_command(monkeypatch, tmp_path):
    monkeypatch.setattr(local, "has_gpu", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")
    command = local.build_command("training", tmp_path)
    assert command[:4] == [sys.executable, "-m", "accelerate.commands.launch", "--cpu"]
    assert command[-3:] == ["-m", "rlhfv.ddpo.train", str(tmp_path)]
    monkeypatch.setattr(local, "has_gpu", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert local.build_command("training", tmp_path)[3:] == ["-m", "rlhfv.ddpo.train", str(tmp_path)]
    assert local.build_command("evaluation", tmp_path)[1:] == ["-m", "rlhfv.evaluation.run", str(tmp_path)]


@pytest.mark.parametrize(("visible", "batch", "processes"), [("0,1", 8, "2"), ("0,1,2", 8, "2"), ("0,1,2,3", 3, "3")])
def test_training_takes_as_many_gpus_as_share_a_batch_evenly(monkeypatch, tmp_path, visible, batch, processes):
    monkeypatch.setattr(local, "has_gpu", lambda: True)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    folder = RunFolder(tmp_path / "run")
    folder.create({"kind": "training", "training": {"batch_size": batch}}, [], Path)
    command = local.build_command("training", folder.path)
    assert command[command.index("--num_processes") + 1] == processes
    assert "--multi_gpu" in command
    (tmp_path / "cache" / "accelerate").mkdir(parents=True)
    (tmp_path / "cache" / "accelerate" / "default_config.yaml").touch()
    assert local.build_command("training", folder.path)[3:] == ["-m", "rlhfv.ddpo.train", str(folder.path)]
