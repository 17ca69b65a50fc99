import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from rlhfv.corrections.conversation import Prompt, Sampling, Turn
from rlhfv.ddpo import attempt
from rlhfv.ddpo.base import load_base
from rlhfv.ddpo.reference import StaleReference
from rlhfv.ddpo.train import run, train
from rlhfv.errors import InvalidData, RunFailed
from rlhfv.models.catalog import find_entry
from rlhfv.models.local import Row, load_model
from rlhfv.run_folder import RunFolder
from tests.ddpo.conftest import SHORT, make_pair

pytestmark = pytest.mark.usefixtures("few_looks")
STEP_FIELDS = {
    "loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen",
    "logps/rejected", "pairs_per_second", "memory", "eta", "step", "total_steps", "epoch",
}  # fmt: skip


def start(base, images, pairs, folder, config=SHORT):
    return train(pairs, config, images=images, output=folder, model=str(base))


def events(folder, kind=None):
    found, _ = RunFolder(folder).read_events()
    return [event for event in found if kind in (None, event["kind"])]


def weights(folder):
    return load_file(Path(folder) / "adapter" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def finished(bases, images, pairs, names, tmp_path_factory):
    """A run of ten pairs, two of twelve being of no use."""
    useless = [make_pair("same", names[0], edits=[]), make_pair("gone", "f" * 64 + ".png")]
    folder = tmp_path_factory.mktemp("runs") / "first-run"
    result = start(bases["llava"], images, [*pairs[:10], *useless], folder, SHORT.changed(eval_fraction=0.2))
    return folder, result


def test_a_run_ends_with_an_adapter_and_lower_loss(finished):
    folder, result = finished
    steps = [event for event in events(folder, "step") if "loss" in event]
    assert result.state == "done"
    assert result.path == folder / "adapter"
    assert [event["step"] for event in steps] == list(range(1, 7))
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert steps[-1]["loss"] < 0.5
    assert steps[-1]["rewards/accuracies"] == 1.0
    assert all(event.keys() >= STEP_FIELDS for event in steps)
    assert {event["total_steps"] for event in steps} == {6}
    assert events(folder)[-1]["kind"] == "done"
    assert not (folder / "checkpoints").exists()


def test_states_and_skipped_pairs_are_told(finished):
    folder, _ = finished
    assert [event["state"] for event in events(folder, "state")] == ["starting", "running"]
    skipped = {event["pair"]: event["reason"] for event in events(folder, "skip")}
    assert skipped.keys() == {"same", "gone"}
    assert "is the same as the rejected one" in skipped["same"]
    assert "missing" in skipped["gone"]


def test_held_out_pairs_are_measured(finished):
    folder, result = finished
    held_out = [event for event in events(folder, "step") if "eval_loss" in event]
    assert held_out[-1]["eval_loss"] < math.log(2)
    assert {"eval_rewards/margins", "eval_rewards/accuracies"} <= held_out[-1].keys()
    assert result.figures["eval_loss"] == held_out[-1]["eval_loss"]


def test_only_the_adapter_of_the_language_model_was_trained(finished):
    folder, _ = finished
    saved = weights(folder)
    assert all("language_model" in name and "lora_" in name for name in saved)
    assert any(value.abs().max() > 0 for name, value in saved.items() if "lora_B" in name)


def test_the_card_names_base_recipe_pairs_and_figures(finished, bases):
    folder, _ = finished
    card = json.loads((folder / "adapter" / "rlhfv.json").read_text())
    readme = (folder / "adapter" / "README.md").read_text()
    assert card["base"] == {key: RunFolder(folder).read_config()["base"][key] for key in ("name", "revision")}
    assert card["recipe"] == "demo"
    assert card["run"] == "first-run"
    assert card["pairs"]["count"] == len(card["pairs"]["ids"]) == 8
    assert card["pairs"]["held_out"] == 2
    for part in (
        card["base"]["revision"],
        "demo",
        card["pairs"]["sha256"],
        card["pairs"]["ids"][0],
        "rewards/margins",
    ):
        assert part in readme


def test_no_file_of_a_run_names_a_place_on_this_machine(finished, bases, tmp_path_factory):
    folder, _ = finished
    home = str(tmp_path_factory.getbasetemp()).encode()
    for path in folder.rglob("*"):
        if path.is_file():
            assert home not in path.read_bytes(), path.name
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "llava"


def test_the_adapter_answers_beside_the_baseline(finished, bases, find_image, pairs):
    folder, _ = finished
    model = load_model(str(bases["llava"]))
    try:
        voice = model.attach(folder / "adapter")
        assert not model.adapters()[voice].changes_nothing
        answers = [
            model.answer_many([pairs[0].prompt], who, Sampling(max_new_tokens=20), find_image, 1)
            for who in (None, voice)
        ]
        assert answers[0] != answers[1]
    finally:
        model.unload()


@pytest.mark.parametrize("family", ["smolvlm", "qwen2_5_vl"])
def test_other_families_learn_too_and_answer_with_the_adapter(bases, images, pairs, tmp_path, find_image, family):
    result = start(bases[family], images, pairs[:8], tmp_path / "run", SHORT.changed(epochs=4))
    losses = [event["loss"] for event in events(tmp_path / "run", "step")]
    assert result.state == "done"
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert losses[-1] < 0.6
    assert not [event for event in events(tmp_path / "run", "log") if "more slowly" in event["text"]]
    model = load_model(str(bases[family]), [result.path])
    try:
        (voice,) = model.adapters()
        assert not model.adapters()[voice].changes_nothing
        rows = [Row(None, pairs[0].prompt), Row(voice, pairs[0].prompt)]
        *_, (base, tuned) = model.answer_both(rows, Sampling(max_new_tokens=20), find_image)
        assert base != tuned
    finally:
        model.unload()


@pytest.mark.parametrize("family", ["llava", "smolvlm", "qwen2_5_vl"])
def test_pairs_with_several_images_and_with_none_learn_together(bases, images, pairs, names, tmp_path, family):
    def asked(name, question, pictures, history=()):
        return dataclasses.replace(pairs[0], id=name, prompt=Prompt(question, pictures, history))

    mixed = [
        asked("none", "what is said?", ()),
        asked("two", "compare them", (names[1], names[5])),
        asked("later", "and this one?", (names[2],), (Turn("what is it?", "a dog", (names[3],)),)),
        asked("one", "what is it?", (names[4],)),
    ]
    result = start(bases[family], images, mixed, tmp_path / "run", SHORT.changed(epochs=4))
    losses = [event["loss"] for event in events(tmp_path / "run", "step")]
    assert result.state == "done"
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert losses[-1] < 0.6
    assert not events(tmp_path / "run", "skip")
    assert not [event for event in events(tmp_path / "run", "log") if "more slowly" in event["text"]]


@pytest.mark.parametrize("extra", [{}, {"full_tuning": True, "learning_rate": 1e-4}], ids=["adapter", "full"])
def test_in_bfloat16_it_learns_and_starts_near_ln_2(bases, images, pairs, tmp_path, extra):
    result = start(bases["llava"], images, pairs[:8], tmp_path / "run", SHORT.changed(precision="bfloat16", **extra))
    losses = [event["loss"] for event in events(tmp_path / "run", "step")]
    assert losses[0] == pytest.approx(math.log(2), abs=0.02)
    assert losses[-1] < 0.5
    assert {value.dtype for value in load_file(next(result.path.glob("*.safetensors"))).values()} == {torch.float32}


def test_how_many_fit_at_once_changes_nothing(bases, images, pairs, tmp_path, monkeypatch):
    """Eleven pairs in steps of eight: the last step has three, in pieces of one, two and one, or all at once."""
    made = {}
    for size in (1, 2, 8):
        monkeypatch.setattr(attempt, "pairs_at_once", lambda *_, size=size: size)
        start(bases["llava"], images, pairs[:11], tmp_path / str(size), SHORT.changed(batch_size=8))
        losses = [event["loss"] for event in events(tmp_path / str(size), "step")]
        made[size] = losses, weights(tmp_path / str(size))
    for size in (2, 8):
        assert made[size][0] == pytest.approx(made[1][0], abs=1e-4)
        for name, value in made[1][1].items():
            assert (made[size][1][name] - value).norm() <= 1e-3 * value.norm() + 1e-7, name


def test_a_run_of_one_step_learns(bases, images, pairs, tmp_path):
    """The first step of a warm-up has rate 0: a run that is nothing else would end as it began."""
    start(bases["llava"], images, pairs[:3], tmp_path / "run", SHORT.changed(epochs=1))
    assert len(events(tmp_path / "run", "step")) == 1
    assert any(value.abs().max() > 0 for name, value in weights(tmp_path / "run").items() if "lora_B" in name)


def stop_after(monkeypatch, steps, by_signal=False):
    """Ask every run to stop when it has done so many steps; the reference pass is let through."""
    look = attempt.DDPOTrainer.log

    def log(self, logs, start_time=None):
        look(self, logs, start_time)
        if self.state.global_step == steps and "loss" in logs:
            if by_signal:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                Path(self.args.output_dir).parent.joinpath("stop").touch()

    monkeypatch.setattr(attempt.DDPOTrainer, "log", log)


@pytest.mark.parametrize(
    ("steps", "at_once"),
    [((2, 4, 7), 5), pytest.param((4,), 1, marks=pytest.mark.slow)],
    ids=["after an epoch too", "inside one"],
)
def test_a_stopped_and_resumed_run_equals_the_uninterrupted_one(
    bases, images, pairs, tmp_path, monkeypatch, steps, at_once
):
    """Of twelve pairs in steps of five an epoch has three steps, the last of two pairs; it stops one step later, by
    turns because of a file and of SIGTERM."""
    config = SHORT.changed(lora_dropout=0.1, batch_size=5)
    monkeypatch.setattr(attempt, "pairs_at_once", lambda *_: at_once)
    start(bases["llava"], images, pairs, tmp_path / "whole", config)
    begin = partial(start, bases["llava"], images, pairs, tmp_path / "broken", config)
    for number, step in enumerate(steps):
        with monkeypatch.context() as patch:
            stop_after(patch, step, by_signal=number % 2)
            stopped = begin()
        begin = partial(run, tmp_path / "broken", find_entry(str(bases["llava"])))
        assert stopped.state == "stopped"
        assert RunFolder(tmp_path / "broken").last_checkpoint().name == f"checkpoint-{step + 1}"
        assert events(tmp_path / "broken")[-1]["state"] == "stopped"
        assert not (tmp_path / "broken" / "adapter").exists()
        torch.manual_seed(12345)  # whatever else happened in the process
    resumed = begin()
    assert resumed.state == "done"

    def losses(name):
        return {event["step"]: event["loss"] for event in events(tmp_path / name, "step") if "loss" in event}

    assert losses("broken") == losses("whole")
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first.keys() == second.keys()


def test_dropout_is_drawn_by_each_device_so_their_number_stays(bases, images, pairs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        start(bases["llava"], images, pairs[:4], tmp_path / "run", SHORT.changed(lora_dropout=0.1))
    checkpoint = RunFolder(tmp_path / "run").last_checkpoint()
    for rank in range(2):  # as two processes leave it
        shutil.copyfile(checkpoint / "rng_state.pth", checkpoint / f"rng_state_{rank}.pth")
    (checkpoint / "rng_state.pth").unlink()
    with pytest.raises(RunFailed, match="began on 2 devices and is to go on with 1"):
        run(tmp_path / "run", find_entry(str(bases["llava"])))


def test_a_checkpoint_torn_by_a_kill_is_passed_over(bases, images, pairs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        start(bases["llava"], images, pairs, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    newest = folder.list_checkpoints()[-1]
    torn = newest.with_name("checkpoint-8")
    shutil.copytree(newest, torn)
    (torn / "trainer_state.json").write_text('{"global_step": 8, "log_hist')
    assert folder.last_checkpoint() == newest


def test_a_resumed_run_refuses_a_reference_of_another_setting(bases, images, pairs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        start(bases["llava"], images, pairs, tmp_path / "run")
    describe = attempt.describe_setting
    monkeypatch.setattr(attempt, "describe_setting", lambda *args: {**describe(*args), "template": "another"})
    with pytest.raises(StaleReference, match="another template"):
        run(tmp_path / "run", find_entry(str(bases["llava"])))
    last = events(tmp_path / "run")[-1]
    assert last["kind"] == "error"
    assert last["what"] and last["why"] and last["fix"]


def test_a_fresh_run_computes_a_stale_reference_anew_and_says_so(bases, images, pairs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        start(bases["llava"], images, pairs, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    describe = attempt.describe_setting
    monkeypatch.setattr(attempt, "describe_setting", lambda *args: {**describe(*args), "dtype": "bfloat16"})
    result = run(tmp_path / "run", find_entry(str(bases["llava"])))
    assert result.state == "done"
    assert [event for event in events(tmp_path / "run", "log") if "computed anew" in event["text"]]


def test_a_base_that_changed_is_refused(bases, images, pairs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        start(bases["llava"], images, pairs, tmp_path / "run")
    with pytest.raises(RunFailed, match="Bring that base back"):
        run(tmp_path / "run", find_entry(str(bases["smolvlm"])))


def test_a_first_loss_other_than_ln_2_ends_the_run(bases, images, pairs, tmp_path, monkeypatch):
    compute = attempt.compute_references

    def wrong(some, *rest):
        compute(some, *rest)
        some[0].reference[: len(some[0].chosen)] -= 1.0

    monkeypatch.setattr(attempt, "compute_references", wrong)
    monkeypatch.setattr(attempt, "pairs_at_once", lambda *_: 1)
    config = SHORT.changed(batch_size=12)  # one pair of twelve is enough, in whichever piece of the step it comes
    with pytest.raises(RunFailed, match="not ln 2"):
        start(bases["llava"], images, pairs, tmp_path / "run", config)
    assert events(tmp_path / "run")[-1]["kind"] == "error"


@pytest.mark.parametrize("stop", [False, True])
def test_a_ruinous_rate_warns_before_the_end(bases, images, pairs, tmp_path, stop):
    config = SHORT.changed(learning_rate=0.1, epochs=6, stop_on_warning=stop)
    result = start(bases["llava"], images, pairs, tmp_path / "run", config)
    warned = events(tmp_path / "run", "warn")
    last = max(event["step"] for event in events(tmp_path / "run", "step"))
    assert warned
    assert warned[0]["step"] < 18
    assert warned[0]["what"] and warned[0]["why"] and warned[0]["fix"]
    assert result.warnings
    assert result.state == ("stopped" if stop else "done")
    assert (last < 18) == stop
    assert bool(RunFolder(tmp_path / "run").last_checkpoint()) == stop


def test_a_calm_run_does_not_warn(finished):
    assert events(finished[0], "warn") == []


def test_runs_without_a_usable_pair_or_an_even_share_are_refused(bases, images, names, pairs, tmp_path, monkeypatch):
    with pytest.raises(RunFailed, match="None of 1 pairs"):
        start(bases["llava"], images, [make_pair("same", names[0], edits=[])], tmp_path / "none")
    with pytest.raises(InvalidData, match="no setting"):
        RunFolder(tmp_path / "odd").create(
            {"kind": "training", "base": {"name": "llava", "revision": ""}, "training": {"lr": 1}},
            [],
            lambda name: images / name,
        )
        run(tmp_path / "odd")
    three = SimpleNamespace(num_processes=3, process_index=0, is_main_process=True, device=torch.device("cpu"))
    monkeypatch.setattr(attempt, "PartialState", lambda: three)
    with pytest.raises(InvalidData, match="shared by 3 devices"):
        start(bases["llava"], images, pairs[:4], tmp_path / "uneven")


def test_full_tuning_moves_every_part_and_resumes_exactly(bases, images, pairs, tmp_path, monkeypatch):
    config = SHORT.changed(full_tuning=True, learning_rate=1e-4, epochs=2)
    whole = start(bases["llava"], images, pairs[:8], tmp_path / "whole", config)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        start(bases["llava"], images, pairs[:8], tmp_path / "broken", config)
    assert RunFolder(tmp_path / "broken").last_checkpoint().name == "checkpoint-3"
    resumed = run(tmp_path / "broken", find_entry(str(bases["llava"])))
    models = [load_base(find_entry(str(place)), config).model for place in (bases["llava"], whole.path, resumed.path)]
    before, after, again = [dict(model.named_parameters()) for model in models]
    # The tower's last layer and its final norm do not reach the features that LLaVA takes (layer -2).
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("vision_tower" in name for name in moved)
    assert any("language_model" in name for name in moved)
    assert any("projector" in name for name in moved)
    assert all(torch.equal(after[name], again[name]) for name in after)
    assert not (tmp_path / "whole" / "adapter").exists()


def test_gradient_checkpointing_changes_no_loss(bases, images, pairs, tmp_path):
    for name, on in (("off", False), ("on", True)):
        start(bases["llava"], images, pairs[:4], tmp_path / name, SHORT.changed(gradient_checkpointing=on))
    found = [[event["loss"] for event in events(tmp_path / name, "step")] for name in ("off", "on")]
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_as_a_command_it_fails_with_three_parts_and_a_code(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "rlhfv.ddpo.train", str(tmp_path / "nothing")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "There is no run" in result.stderr
    assert "Traceback" not in result.stderr
