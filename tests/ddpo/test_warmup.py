"""Runs that first learn the corrected answers: the warmed model is policy and reference of the first DDPO step."""

import math
import re
from pathlib import Path

import pytest
import torch

from rlhfv.ddpo import attempt
from rlhfv.ddpo.train import run, train
from rlhfv.errors import RunFailed
from rlhfv.models.catalog import find_entry
from rlhfv.run_folder import RunFolder
from tests.ddpo.conftest import SHORT

pytestmark = pytest.mark.usefixtures("few_looks")
WARM = SHORT.changed(sft_epochs=4, sft_learning_rate=3e-3)


def start(base, images, pairs, folder, config=WARM):
    return train(pairs, config, images=images, output=folder, model=str(base))


def told(folder):
    events, _ = RunFolder(folder).read_events()
    return [event["text"] for event in events if event["kind"] == "log"]


def losses(folder):
    events, _ = RunFolder(folder).read_events()
    return [event["loss"] for event in events if event["kind"] == "step" and "loss" in event]


def references(folder):
    return attempt.ReferenceCache(folder / "reference.safetensors", {})._kept_setting()


@pytest.fixture(scope="module")
def whole(bases, images, pairs, tmp_path_factory, few_looks):
    folder = tmp_path_factory.mktemp("warm") / "run"
    assert start(bases["llava"], images, pairs[:8], folder).state == "done"
    return folder


def test_corrected_answers_are_learnt_first_and_the_first_loss_is_ln_2(whole):
    (text,) = [text for text in told(whole) if text.startswith("Warmed up")]
    before, after = map(float, re.findall(r"\d+\.\d+", text))
    assert after < before - 0.05
    assert losses(whole)[0] == pytest.approx(math.log(2), abs=1e-5)
    assert references(whole)["start"] == "4 epochs at 0.003"


def test_without_it_nothing_is_said_and_the_reference_is_the_base(bases, images, pairs, tmp_path, whole):
    start(bases["llava"], images, pairs[:8], tmp_path / "run", SHORT)
    assert not any("Warm" in text for text in told(tmp_path / "run"))
    assert "start" not in references(tmp_path / "run")


def test_two_rows_a_pair_learn_the_same(bases, images, pairs, tmp_path, whole):
    start(bases["llava"], images, pairs[:8], tmp_path / "run", WARM.changed(packed="off"))
    assert losses(tmp_path / "run") == pytest.approx(losses(whole), abs=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "bfloat16"},
        {"precision": "bfloat16", "full_tuning": True, "learning_rate": 1e-4, "sft_learning_rate": 1e-3},
        {"lora_dropout": 0.5},
    ],
    ids=["bfloat16", "full tuning in bfloat16", "dropout"],
)
def test_any_way_of_training_can_be_warmed_up(bases, images, pairs, tmp_path, change):
    result = start(bases["llava"], images, pairs[:8], tmp_path / "run", WARM.changed(epochs=1, **change))
    assert result.state == "done"
    (text,) = [text for text in told(tmp_path / "run") if text.startswith("Warmed up")]
    before, after = map(float, re.findall(r"\d+\.\d+", text))
    assert after < before


def test_a_warm_up_that_leaves_the_numbers_is_told_as_such(bases, images, pairs, tmp_path, monkeypatch):
    monkeypatch.setattr("rlhfv.ddpo.warmup.score_answers", lambda *_, **__: torch.tensor([math.nan]).requires_grad_())
    with pytest.raises(RunFailed, match="loss of the warm-up is nan"):
        start(bases["llava"], images, pairs[:4], tmp_path / "run")


@pytest.mark.parametrize("when", ["warming up", pytest.param("training", marks=pytest.mark.slow)])
def test_a_stopped_run_ends_as_the_uninterrupted_one(bases, images, pairs, tmp_path, monkeypatch, whole, when):
    folder, stop = tmp_path / "run", tmp_path / "run" / "stop"
    if when == "training":
        look = attempt.DDPOTrainer.log

        def log(self, logs, start_time=None):
            look(self, logs, start_time)
            if self.state.global_step == 2 and "loss" in logs:
                stop.touch()

        monkeypatch.setattr(attempt.DDPOTrainer, "log", log)
    else:
        warm = attempt.warm_up

        def warm_up(trainer, pairs, tell, should_stop):
            def touched(done, total):
                tell(done, total)
                if done == 3:
                    stop.touch()

            return warm(trainer, pairs, touched, should_stop)

        monkeypatch.setattr(attempt, "warm_up", warm_up)
    assert start(bases["llava"], images, pairs[:8], folder).state == "stopped"
    monkeypatch.undo()
    assert run(RunFolder(folder), find_entry(str(bases["llava"]))).state == "done"
    assert losses(folder) == losses(whole)
    assert torch.equal(weights(folder), weights(whole))


def weights(folder: Path) -> torch.Tensor:
    from safetensors.torch import load_file

    return torch.cat([value.flatten() for value in load_file(folder / "adapter/adapter_model.safetensors").values()])


def test_a_lost_reference_is_not_computed_from_a_model_that_has_moved_on(bases, images, pairs, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    look = attempt.DDPOTrainer.log

    def log(self, logs, start_time=None):
        look(self, logs, start_time)
        if self.state.global_step == 2 and "loss" in logs:
            (folder / "stop").touch()

    monkeypatch.setattr(attempt.DDPOTrainer, "log", log)
    assert start(bases["llava"], images, pairs[:8], folder).state == "stopped"
    (folder / "reference.safetensors").unlink()
    with pytest.raises(RunFailed, match="reference of 8 pairs is not there"):
        run(RunFolder(folder), find_entry(str(bases["llava"])))
