import contextlib
import io
import json
import math
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from rlhfv.cli import main
from rlhfv.ddpo import train as training
from rlhfv.errors import InvalidImage, RunFailed
from rlhfv.models.catalog import find_entry
from rlhfv.services import doctor
from tests.models.families import ARCHITECTURES

NAMES = ["machine", "training", "training, two rows a pair", "TRL", "load", "two answers"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {name: ARCHITECTURES[name](root / name.lower()) for name in ("LLaVA", "InstructBLIP")}


@pytest.fixture
def in_process(monkeypatch):
    """Short runs in this process, which saves the start of two; TRL says that it cannot."""
    for name, value in (("ddpo.watch.PROBES", 1), ("ddpo.watch.LONGEST_PROBE", 2), ("services.doctor.STEPS", 2)):
        monkeypatch.setattr(f"rlhfv.{name}", value)

    def work(command, env, **_):
        if "rlhfv.ddpo.beside_trl" in command:
            return SimpleNamespace(returncode=1, stderr="warning\nTypeError: not this one\n")
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
            for name, value in env.items():
                patch.setenv(name, value)
            try:
                training.run(Path(command[-1]))
            except RunFailed:
                return SimpleNamespace(returncode=1)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", work)


def findings(folder, pictures=()):
    return {finding.name: finding for finding in doctor.examine(find_entry(str(folder)), pictures)}


def test_every_part_is_tried_and_told(bases, in_process):
    found = findings(bases["LLaVA"])
    assert list(found) == NAMES
    assert {name: one.state for name, one in found.items()} == dict.fromkeys(NAMES, "ok") | {"TRL": "failed"}
    for name, packed in (("training", True), ("training, two rows a pair", False)):
        figures = found[name].figures
        assert figures["packed"] == packed
        assert figures["first_loss"] == pytest.approx(math.log(2), abs=1e-5)
        assert figures["seconds_a_pair"] > 0
        assert figures["peak_memory"] > 10**8
        assert figures["processes"] == 1
    assert "times fewer tokens" in found["training"].text
    assert found["two answers"].figures["one_call"]
    assert found["two answers"].figures["voices"] == "baseline and the adapter just trained"
    assert found["TRL"].error["why"] == "It says: TypeError: not this one"


def test_a_model_that_falls_back_says_why(bases, in_process):
    found = findings(bases["InstructBLIP"])
    assert "no decoder" in found["training"].text
    assert found["training, two rows a pair"].state == "left out"
    assert "together with the question" in found["two answers"].text
    assert not found["two answers"].figures["one_call"]


def test_a_failure_has_three_parts_and_hides_nothing_else(bases, in_process, tmp_path):
    broken = shutil.copytree(bases["LLaVA"], tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"half of it")
    found = findings(broken)
    states = {name: one.state for name, one in found.items()}
    assert list(found) == NAMES
    assert states["machine"] == "ok"
    assert states["training"] == states["load"] == "failed"
    assert states["TRL"] == states["two answers"] == "left out"
    assert all(found["load"].error[part] for part in ("what", "why", "fix"))


def test_a_run_that_dies_without_a_word_is_told_with_the_end_of_its_log(bases, monkeypatch):
    def die(command, stdout=None, **_):
        if stdout is not None:
            stdout.write(b"something\nKilled\n")
        return SimpleNamespace(returncode=-9, stderr="", stdout="")

    monkeypatch.setattr(subprocess, "run", die)
    found = findings(bases["LLaVA"])
    assert "code -9" in found["training"].error["what"]
    assert "Killed" in found["training"].error["why"]
    assert found["two answers"].figures["voices"] == "the baseline twice"


def test_pictures_of_ones_own_are_taken_and_broken_ones_refused(bases, in_process, tmp_path):
    Image.new("RGB", (50, 40), "teal").save(tmp_path / "own.png")
    assert findings(bases["LLaVA"], [tmp_path / "own.png"])["training"].state == "ok"
    (tmp_path / "own.png").write_bytes(b"no picture")
    with pytest.raises(InvalidImage):
        findings(bases["LLaVA"], [tmp_path / "own.png"])


def test_the_drawn_pictures_and_pairs_are_what_is_said_of_them():
    assert len(set(doctor.draw_pictures())) == 4
    pairs = doctor.make_pairs(["a", "b"], 3)
    assert [pair.prompt.images for pair in pairs] == [("a",), ("b",), ("a",)]
    assert pairs[0].edits[0].start / len(doctor.ANSWER) == pytest.approx(1 / 3, abs=0.05)
    assert all(old in pairs[0].rejected and new in pairs[0].chosen for old, new in doctor.CORRECTIONS)


@pytest.mark.slow
def test_as_a_verb_it_prints_a_table_or_json(bases, in_process, capsys):
    assert main(["doctor", "--model", str(bases["LLaVA"])]) == 1  # TRL failed
    out, err = capsys.readouterr()
    assert [line.split("  ")[0] for line in out.splitlines() if not line.startswith(" ")] == NAMES
    assert "Traceback" not in err
    assert main(["doctor", "--model", str(bases["LLaVA"]), "--json"]) == 1
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [one["name"] for one in told["findings"]] == NAMES
    assert told["failed"] == 1


def test_a_model_that_does_not_exist_is_refused(capsys):
    assert main(["doctor", "--model", "/no/such/folder"]) == 2
    assert "There is no model" in capsys.readouterr().err


@pytest.mark.slow
def test_the_demo_model_is_found_well(capsys):
    """As a person calls it, with processes of their own; with TRL where the tests have it."""
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    figures = {one["name"]: one["figures"] for one in told["findings"]}
    assert figures["training"]["packed"]
    assert figures["training"]["first_loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert figures["TRL"]["first_loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert figures["TRL"]["seconds_a_pair"] > 0
