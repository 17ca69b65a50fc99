"""kill -9 in the middle of true training on another machine: the trainer alone, then the whole worker."""

import math
import os
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rlhfv.ddpo.config import TrainingConfig
from rlhfv.models.catalog import find_entry
from rlhfv.models.identity import folder_identity
from rlhfv.run_folder import RunFolder
from tests.runs.test_hub_runs import REPO, end, make_run, open_runs, runs, start, token, wait_until

__all__ = ["make_run", "open_runs", "runs", "start", "token"]

STEPS = 8


def find_trainer(runs, run_id: str) -> int:
    """The process on this machine that trains the run, whoever started it."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"-c" not in words and any(word.endswith(f"/runs/{run_id}".encode()) for word in words):
            return int(place.name)
    return 0


def pushed_step(hub, run_id: str) -> int:
    places = [path for path in hub.paths(REPO, repo_type="model") if path.endswith("trainer_state.json")]
    steps = [int(path.split("/")[3].removeprefix("checkpoint-")) for path in places if run_id in path]
    return max(steps, default=0)


def kill_trainer(hub, runs, run_id: str, after: int) -> None:
    """Once a checkpoint beyond step `after` is in the repository."""
    wait_until(lambda: pushed_step(hub, run_id) > after, 60)
    os.kill(find_trainer(runs, run_id), signal.SIGKILL)


def test_a_trainer_that_is_killed_is_told_with_its_last_line_and_resumed(hub, runs, make_run, start):
    run = make_run()
    runs.send(run)
    first = start("middling", "first")
    kill_trainer(hub, runs, run.id, 1)
    assert f"{run.id}: failed" in end(first)
    failed = runs.fetch(run.id, run)
    assert failed.state == "failed" and "killed by signal 9" in failed.error
    assert f"Its last line: {run.read_log()[-1]}" in failed.error
    assert 0 < pushed_step(hub, run.id) <= failed.step
    runs.resume(run.id)
    assert f"{run.id}: done" in end(start("quick", "second"))
    assert runs.get(run.id).state == "done"
    runs.fetch(run.id, run)
    begins = [event["resumed"] for event in run.read_events()[0] if event.get("state") == "running"]
    assert begins == [False, True], "it went on from the pushed checkpoint"


@pytest.mark.slow
def test_killed_twice_it_ends_like_an_uninterrupted_run(hub, open_runs, tmp_path, start, monkeypatch):
    """The true trainer on a tiny LLaVA: kill -9 of the training process, later of the worker; the curve and the
    adapter are those of a run that nothing happened to."""
    from rlhfv.ddpo.train import run as train_here
    from tests.models.tiny import build_llava
    from tests.runs.test_training_run import make_pairs

    runs = open_runs(lease=2.0)
    base, images = build_llava(tmp_path / "tiny"), tmp_path / "images"
    images.mkdir()
    identity = folder_identity(str(base))
    training = TrainingConfig(
        steps=STEPS, batch_size=4, eval_fraction=0.0, learning_rate=1e-3, lora_rank=4, lora_alpha=8
    ).to_dict()
    config = {
        "kind": "training",
        "title": "killed twice",
        "base": {"name": identity.name, "revision": identity.revision, "source": identity.name},
        "training": training,
    }
    rows = [pair.to_row() for pair in make_pairs(images, 12)]
    calm, run = (
        RunFolder(tmp_path / "calm" / "20260101-000000-calm"),
        RunFolder(tmp_path / "own" / "20260101-000000-abcd"),
    )
    for folder in (calm, run):
        folder.create(config, rows, images.joinpath)
    monkeypatch.setattr("rlhfv.ddpo.trainer.EVENTS_A_SECOND", math.inf)
    train_here(calm, find_entry(str(base)))

    runs.send(run, base, with_base=True)
    first = start("true", "first", 2.0)
    kill_trainer(hub, runs, run.id, 0)
    assert f"{run.id}: failed" in end(first)
    failed = runs.fetch(run.id, run)
    assert failed.state == "failed" and "killed by signal 9" in failed.error
    assert f"Its last line: {run.read_log()[-1]}" in failed.error and 0 < failed.step < STEPS

    runs.resume(run.id)
    reached = pushed_step(hub, run.id)
    second = start("true", "second", 2.0)
    wait_until(lambda: pushed_step(hub, run.id) > reached, 60)
    trainer = find_trainer(runs, run.id)
    second.kill()
    second.wait()
    wait_until(lambda: not Path(f"/proc/{trainer}").exists(), 60)
    wait_until(lambda: runs.is_lapsed(runs.get(run.id)))

    assert f"{run.id}: done" in end(start("true", "third", 2.0), 120)
    done = runs.fetch(run.id, run)
    assert (done.state, done.attempt, done.worker) == ("done", 3, "third")
    events = run.read_events()[0]
    assert [event["resumed"] for event in events if event.get("state") == "running"] == [False, True, True]
    curve, expected = losses(run), losses(calm)
    assert len(curve) == STEPS and curve == pytest.approx(expected, abs=1e-6)
    ours, theirs = (load_file(folder.adapter / "adapter_model.safetensors") for folder in (run, calm))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert (value - theirs[name]).abs().max() <= 1e-6, name


def losses(folder: RunFolder) -> list[float]:
    """The loss of each step, as it was told last: what was learnt after the last checkpoint is learnt again."""
    steps = {
        event["step"]: event["loss"]
        for event in folder.read_events()[0]
        if event["kind"] == "step" and "loss" in event
    }
    return [steps[step] for step in sorted(steps)]
