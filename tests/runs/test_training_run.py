"""One true training run through everything that can happen to it: stop, resume, kill -9, resume, export."""

import os
import signal
import time
from hashlib import sha256

import pytest

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.edits import CorrectedAnswer
from rlhfv.corrections.pairs import PreferencePair, Provenance
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.models.catalog import find_entry
from rlhfv.models.identity import folder_identity
from rlhfv.runs.local import LocalRuns
from rlhfv.runs.supervisor import Supervisor

STEPS = 8


def make_pairs(folder, count):
    """Pairs of the demo's world whose rejected answers name one thing that is not there."""
    world = find_entry("demo").world
    pairs = []
    for seed in range(count):
        picture, source = world.draw("pairs", seed)
        name = sha256(picture).hexdigest() + ".png"
        (folder / name).write_bytes(picture)
        absent = next(one for one in ("fork", "toilet") if one not in world.truth(source).counts())
        answer = f"The picture shows a {world.truth(source).scene_type}. There is a {absent} on the left."
        edits = world.annotate(source, world.questions[0], answer)
        corrected = CorrectedAnswer(answer, edits)
        prompt = Prompt(world.questions[0], (name,))
        provenance = Provenance(annotator="oracle", source=source)
        pairs.append(PreferencePair(f"p{seed}", prompt, corrected.corrected, answer, edits, "corrected", provenance))
    return pairs


def wait_for(runs, run_id, accept, seconds=900):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        run = runs.get(run_id)
        if accept(run):
            return run
        assert run.state != "failed", (run.error, run.lines)
        time.sleep(0.1)
    raise AssertionError(f"still {run.state} at step {run.step}: {run.lines}")


def steps_of(folder):
    return [event["step"] for event in folder.read_events()[0] if event["kind"] == "step" and "loss" in event]


@pytest.fixture
def runs(tmp_path):
    runs = LocalRuns(tmp_path / "data")
    supervisor = Supervisor(runs).start()
    yield runs
    supervisor.close()
    for run in runs.list():
        process = runs._record(run.id).process
        if process is not None:
            process.signal(signal.SIGKILL)


@pytest.mark.slow
def test_a_training_run_survives_what_happens_to_it(tmp_path, runs):
    images = tmp_path / "images"
    images.mkdir()
    entry = find_entry("demo")
    pairs = make_pairs(images, 16)
    config = TrainingConfig(steps=STEPS, batch_size=4, eval_fraction=0.0)
    run = runs.start(
        {
            "kind": "training",
            "title": "through everything",
            "base": {"name": "demo", "revision": folder_identity(entry.source).revision, "source": "demo"},
            "training": config.to_dict(),
        },
        [pair.to_row() for pair in pairs],
        images.joinpath,
    )
    folder = runs.open(run.id)

    wait_for(runs, run.id, lambda run: run.step >= 2)
    assert runs.get(run.id).state == "running" and runs.get(run.id).total_steps == STEPS
    runs.stop(run.id)
    stopped = wait_for(runs, run.id, lambda run: run.state == "stopped")
    assert folder.list_checkpoints() and stopped.step < STEPS
    reached = int(folder.list_checkpoints()[-1].name.removeprefix("checkpoint-"))

    runs.resume(run.id)
    wait_for(runs, run.id, lambda run: run.step > reached)
    again = steps_of(folder)[len(steps_of(folder)) - steps_of(folder)[::-1].index(reached + 1) - 1 :]
    assert again[0] == reached + 1, "it goes on after the checkpoint"
    os.killpg(runs._record(run.id).process.pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while (killed := runs.get(run.id)).state != "failed" and time.monotonic() < until:
        time.sleep(0.1)
    assert killed.state == "failed" and killed.lines and "without a word" in killed.error
    assert LocalRuns(runs.data_dir).get(run.id).state == "failed"

    runs.resume(run.id)
    done = wait_for(runs, run.id, lambda run: run.state == "done")
    assert done.has_adapter and steps_of(folder)[-1] == STEPS
    for file in [folder.config_file, folder.events_file, *folder.adapter.rglob("*")]:
        assert str(tmp_path).encode() not in file.read_bytes(), file
    exported = runs.export(run.id, tmp_path / "exported")
    assert (exported / "adapter_model.safetensors").exists()

    duplicate = runs.duplicate(run.id, {"steps": 1})
    wait_for(runs, duplicate.id, lambda run: run.state == "done")
    assert steps_of(runs.open(duplicate.id)) == [1]
