"""Two processes as `accelerate launch` starts them: the losses of one, one decision for both, an end for both."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.utils.data import SequentialSampler

from rlhfv.corrections.conversation import Prompt
from rlhfv.ddpo import attempt
from rlhfv.ddpo.devices import Shares
from rlhfv.ddpo.train import run, train
from rlhfv.models.catalog import find_entry
from rlhfv.run_folder import RunFolder
from tests.ddpo.conftest import SHORT

pytestmark = pytest.mark.usefixtures("few_looks")
RANKS = Path(__file__).with_name("ranks.py")
EVEN = SHORT.changed(normalised=True, beta=0.5, learning_rate=3e-4, eval_fraction=0.3, epochs=2)
"""Nine pairs in steps of four, four and one, and four held out: the last step of an epoch has one pair for two
processes. Means over tokens, since the last digit of a float32 sum of 300 nats is worth 3e-5."""


@pytest.fixture(scope="module")
def odd(pairs):
    """Thirteen pairs, so that one process asks the start model more often than the other; one is about no image."""
    return [*pairs, replace(pairs[0], id="p12", prompt=Prompt("what is said?", ()))]


def freeze(base, images, pairs, folder, config=EVEN) -> Path:
    """A run folder that nobody has worked on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlhfv.ddpo.train.run", lambda folder, entry: folder)
        return train(pairs, config, images=images, output=folder, model=str(base)).path


def launch(plan: list[dict], place: Path) -> subprocess.CompletedProcess:
    (place / "plan.json").write_text(json.dumps(plan))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
    command += ["--main_process_port", "0"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_processes", "2"]
    root = str(RANKS.parents[2])
    # With `--cpu` the launcher starts one process whatever is asked for; this is how it starts one a GPU.
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, str(RANKS), str(place / "plan.json")],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def events(folder, kind):
    return [event for event in RunFolder(folder).read_events()[0] if event["kind"] == kind]


def losses(folder) -> dict:
    """Step → loss and held-out loss."""
    figures = {}
    for event in events(folder, "step"):
        figures.setdefault(event["step"], {}).update({name: event[name] for name in event if name.endswith("loss")})
    return figures


def contents(folder: Path) -> dict:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same(folder, other, within):
    first, second = losses(folder), losses(other)
    assert first.keys() == second.keys()
    for step in first:
        assert first[step] == pytest.approx(second[step], abs=within), step


def assert_same_adapter(folder, other):
    first, second = (load_file(each / "adapter" / "adapter_model.safetensors") for each in (folder, other))
    assert first.keys() == second.keys()
    for name in first:
        assert (first[name] - second[name]).abs().max() < 1e-5, name


@pytest.fixture(scope="module")
def alone(bases, images, odd, tmp_path_factory):
    """The runs of one process, packed and in two rows a pair."""
    place = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        for way, size in (("auto", 2), ("off", 1)):
            patch.setattr(attempt, "pairs_at_once", lambda *_, size=size: size)
            train(odd, EVEN.changed(packed=way), images=images, output=place / way, model=str(bases["llava"]))
    return place


@pytest.fixture(scope="module")
def launched(bases, images, odd, tmp_path_factory):
    place, base = tmp_path_factory.mktemp("two"), bases["llava"]
    settings = {
        "packed": ({}, {"at_once": 2, "alone": True}),
        "plain": ({}, {"at_once": 1, "doubts": True}),
        "broken": ({}, {"at_once": 2, "stop_at": [1, 4], "times": 2}),
        "split": ({"split_weights": True}, {"at_once": 2, "stop_at": [2], "times": 2}),
        "full": ({"full_tuning": True, "learning_rate": 1e-5, "epochs": 1}, {"at_once": 2}),
        "failing": ({}, {"at_once": 2, "fails": True}),
    }
    for name, (changes, _) in settings.items():
        freeze(base, images, odd, place / name, EVEN.changed(**changes))
    frozen = contents(shutil.copytree(place / "packed", place / "packed-of-rank-1"))
    plan = [{"folder": str(place / name), "base": str(base), **how} for name, (_, how) in settings.items()]
    result = launch(plan, place)
    return place, result, frozen


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_each_pair_of_a_step_is_taken_once_whatever_the_devices(pairs, world, at_once, pieces):
    size = world * at_once * pieces
    all_shares = [Shares(SequentialSampler(range(pairs)), size, at_once, world, rank) for rank in range(world)]
    taken = [list(shares) for shares in all_shares]
    assert {len(pieces) for pieces in taken} == {len(all_shares[0])}
    for step in range(-(-pairs // size)):
        found = [
            place for pieces_of_one in taken for piece in pieces_of_one[step * pieces :][:pieces] for place in piece
        ]
        assert sorted(found) == list(range(pairs))[step * size :][:size]
        assert len(found) == all_shares[0].pairs_in_step(step) == all_shares[0].pairs_in_step(step - (-pairs // size))
    assert all(len(piece) <= at_once for pieces_of_one in taken for piece in pieces_of_one)


def test_two_processes_have_the_losses_of_one(launched, alone):
    place, result, _ = launched
    assert "packed 0 done" in result.stdout, result.stderr[-3000:]
    assert_same(place / "packed", alone / "auto", 1e-6)
    assert_same(place / "plain", alone / "off", 1e-6)
    assert len(losses(place / "packed")) == 6
    for name, way in (("packed", "auto"), ("plain", "off")):
        assert_same_adapter(place / name, alone / way)


def test_only_the_main_process_writes_into_the_run_folder(launched):
    place, _, frozen = launched
    assert contents(place / "packed-of-rank-1") == frozen
    assert contents(place / "packed").keys() > frozen.keys()


def test_two_processes_stop_and_go_on_and_one_ends_what_they_began(launched, alone, bases, monkeypatch):
    """Stopped by a file that the main process sees, then by a signal that the other one gets."""
    place, result, _ = launched
    assert result.stdout.count("broken 0 stopped") == result.stdout.count("broken 1 stopped") == 1
    assert RunFolder(place / "broken").last_checkpoint().name == "checkpoint-5"
    monkeypatch.setattr(attempt, "pairs_at_once", lambda *_: 2)
    assert run(place / "broken", find_entry(str(bases["llava"]))).state == "done"
    assert_same(place / "broken", alone / "auto", 1e-6)
    assert_same_adapter(place / "broken", alone / "auto")


def test_split_weights_have_the_losses_of_whole_ones(launched, alone):
    """Stopped and gone on with on the way."""
    place, result, _ = launched
    assert "split 1 done" in result.stdout
    texts = [event["text"] for event in events(place / "split", "log")]
    assert "Packed, one row a pair" in " ".join(texts)
    assert any(text.startswith("The weights are split over 2 devices") and " 0.0 MB" not in text for text in texts)
    assert_same(place / "split", alone / "auto", 1e-6)
    assert_same_adapter(place / "split", alone / "auto")


def test_every_weight_is_tuned_on_two_processes_though_some_are_never_asked(launched):
    """The last layer of LLaVA's tower gives nothing to the loss."""
    place, result, _ = launched
    assert "full 0 done" in result.stdout, result.stderr[-3000:]
    assert [event["made"] for event in events(place / "full", "done")] == ["model"]


@pytest.mark.slow
def test_split_weights_in_bfloat16_with_checkpoints_and_in_other_families(bases, images, odd, tmp_path):
    """M-RoPE, tied embeddings; what two processes with whole weights compute, whose head works in other pieces."""
    low = {"precision": "bfloat16", "gradient_checkpointing": 1, "epochs": 1}
    plan = []
    for family, changes in (("llava", low), ("smolvlm", {"epochs": 1}), ("qwen2_5_vl", {"epochs": 1})):
        for split in (False, True):
            config = EVEN.changed(split_weights=split, **changes)
            folder = freeze(bases[family], images, odd, tmp_path / f"{family}-{split}", config)
            plan.append({"folder": str(folder), "base": str(bases[family]), "at_once": 2})
    result = launch(plan, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    for family in bases:
        assert_same(tmp_path / f"{family}-True", tmp_path / f"{family}-False", 1e-6)
        assert len(losses(tmp_path / f"{family}-True")) == 3


def test_the_process_that_doubts_decides_for_both(launched):
    place, _, _ = launched
    (told,) = [event for event in events(place / "plain", "log") if "packed" in event]
    assert told["text"] == "Two rows a pair: the second process doubts it."
    assert not told["packed"]


def test_an_error_in_one_process_ends_both_and_is_told_as_it_was(launched):
    """The others wait for it in a collective, which would never return."""
    place, result, _ = launched
    assert result.returncode != 0
    (error,) = events(place / "failing", "error")
    assert error["what"] == "Training ended with ArithmeticError: a fault of the second process"
    assert "ranks.py" in error["why"]
    assert "failing 0" not in result.stdout
