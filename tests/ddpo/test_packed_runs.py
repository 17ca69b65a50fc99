"""Whole runs with packed rows: the losses of two rows a pair, and a way back to them that is told."""

import dataclasses
from pathlib import Path

import pytest

from rlhfv.corrections.conversation import Prompt
from rlhfv.ddpo import attempt, packing
from rlhfv.ddpo.train import run, train
from rlhfv.models.catalog import find_entry
from rlhfv.run_folder import RunFolder
from tests.ddpo.conftest import SHORT
from tests.models.tiny import BUILDERS

pytestmark = pytest.mark.usefixtures("few_looks")


def start(base, images, pairs, folder, config=SHORT):
    return train(pairs, config, images=images, output=folder, model=str(base))


def told(folder):
    """Whether the run was packed, and what it said about it."""
    events, _ = RunFolder(folder).read_events()
    (event,) = [event for event in events if event["kind"] == "log" and "packed" in event]
    return event["packed"], event["text"]


def losses(folder):
    events, _ = RunFolder(folder).read_events()
    return [event["loss"] for event in events if event["kind"] == "step" and "loss" in event]


def held_out(folder):
    events, _ = RunFolder(folder).read_events()
    return [event["eval_loss"] for event in events if event["kind"] == "step" and "eval_loss" in event]


@pytest.mark.parametrize(
    "family", ["llava", *(pytest.param(name, marks=pytest.mark.slow) for name in BUILDERS if name != "llava")]
)
def test_packed_runs_end_with_the_losses_of_two_rows_a_pair(bases, images, pairs, tmp_path, family):
    some = [*pairs[:9], dataclasses.replace(pairs[9], prompt=Prompt("what is said?", ()))]
    config = SHORT.changed(eval_fraction=0.2, normalised=True, learning_rate=1e-4)
    for way in ("auto", "off"):
        assert start(bases[family], images, some, tmp_path / way, config.changed(packed=way)).state == "done"
    assert told(tmp_path / "auto")[0]
    assert "times fewer tokens" in told(tmp_path / "auto")[1]
    assert told(tmp_path / "off") == (False, "Two rows a pair: that was asked for.")
    assert losses(tmp_path / "auto") == pytest.approx(losses(tmp_path / "off"), abs=1e-5)
    assert held_out(tmp_path / "auto") == pytest.approx(held_out(tmp_path / "off"), abs=1e-5)
    assert len(losses(tmp_path / "auto")) > 4


@pytest.mark.slow
def test_checkpointing_and_full_tuning_are_packed_too(bases, images, pairs, tmp_path):
    changes = {"checkpointing": {"gradient_checkpointing": True}, "full": {"full_tuning": True, "learning_rate": 1e-4}}
    for name, change in changes.items():
        for way in ("auto", "off"):
            config = SHORT.changed(packed=way, epochs=2, **change)
            start(bases["llava"], images, pairs[:8], tmp_path / name / way, config)
        assert told(tmp_path / name / "auto")[0]
        assert losses(tmp_path / name / "auto") == pytest.approx(losses(tmp_path / name / "off"), abs=1e-4)


def test_in_bfloat16_packed_rows_pass_the_check(bases, images, pairs, tmp_path):
    start(bases["llava"], images, pairs[:8], tmp_path / "run", SHORT.changed(precision="bfloat16", epochs=1))
    assert told(tmp_path / "run")[0]


def test_where_packed_scores_differ_a_run_takes_two_rows_and_says_why(bases, images, pairs, tmp_path, monkeypatch):
    def blind(parents, *rest):
        return packing.torch.eye(parents.shape[1], dtype=bool).expand(len(parents), 1, -1, -1)

    monkeypatch.setattr(packing, "tree_mask", blind)
    assert start(bases["llava"], images, pairs[:4], tmp_path / "run").state == "done"
    packed, text = told(tmp_path / "run")
    assert not packed
    assert "scores differ from two rows a pair" in text
    monkeypatch.undo()
    start(bases["llava"], images, pairs[:4], tmp_path / "off", SHORT.changed(packed="off"))
    assert losses(tmp_path / "run") == losses(tmp_path / "off")


def questions(pairs, names):
    """Two questions about each of the first four pictures."""
    asked = [Prompt(text, (name,)) for name in names[:4] for text in ("describe this image", "what is on the table?")]
    return [dataclasses.replace(pair, prompt=prompt) for pair, prompt in zip(pairs, asked, strict=False)]


def test_pairs_of_one_image_share_a_row_in_a_run(bases, images, names, pairs, tmp_path):
    some = questions(pairs, names)
    for way in ("auto", "off"):
        start(bases["llava"], images, some, tmp_path / way, SHORT.changed(packed=way, learning_rate=1e-4))
    packed, text = told(tmp_path / "auto")
    assert packed
    assert text.startswith("Packed, all pairs of an image in one row")
    assert losses(tmp_path / "auto") == pytest.approx(losses(tmp_path / "off"), abs=1e-5)


def test_where_only_shared_rows_differ_each_pair_keeps_its_own(bases, images, names, pairs, tmp_path, monkeypatch):
    right = packing.tree_mask

    def wrong(parents, *rest):
        mask = right(parents, *rest)
        many = ((parents >= 0) & (parents < packing.torch.arange(parents.shape[1]) - 1)).sum(1) > 1
        mask[many] = packing.torch.ones_like(mask[0]).tril()
        return mask

    monkeypatch.setattr(packing, "tree_mask", wrong)
    start(bases["llava"], images, questions(pairs, names), tmp_path / "run", SHORT.changed(epochs=1))
    packed, text = told(tmp_path / "run")
    assert packed
    assert text.startswith("Packed, one row a pair")
    events, _ = RunFolder(tmp_path / "run").read_events()
    assert any("do not share a row: their scores differ" in event.get("text", "") for event in events)


@pytest.mark.parametrize("way", [pytest.param("auto", marks=pytest.mark.slow), "off"])
def test_a_resumed_run_goes_on_in_the_way_it_began(bases, images, pairs, tmp_path, monkeypatch, way):
    look = attempt.DDPOTrainer.log

    def log(self, logs, start_time=None):
        look(self, logs, start_time)
        if self.state.global_step == 2 and "loss" in logs:
            Path(self.args.output_dir).parent.joinpath("stop").touch()

    start(bases["llava"], images, pairs[:8], tmp_path / "whole", SHORT.changed(packed=way))
    monkeypatch.setattr(attempt, "TrainingConfig", Began)
    Began.packed = way
    with monkeypatch.context() as patch:
        patch.setattr(attempt.DDPOTrainer, "log", log)
        assert start(bases["llava"], images, pairs[:8], tmp_path / "run").state == "stopped"
    Began.packed = "auto"
    folder = RunFolder(tmp_path / "run")
    before, _ = folder.read_events()
    assert run(folder, find_entry(str(bases["llava"]))).state == "done"
    events, _ = folder.read_events()
    (event,) = [event for event in events[len(before) :] if "packed" in event]
    assert event["packed"] == (way == "auto")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


class Began:
    """Reads the settings of a run that was begun by a version without packed rows."""

    packed = "auto"

    @classmethod
    def from_dict(cls, data):
        return SHORT.changed(packed=cls.packed)
