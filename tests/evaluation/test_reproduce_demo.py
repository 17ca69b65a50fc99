"""`reproduce --quick` as people start it: all experiments on the demo model, stopped by a kill and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhfv import cli
from rlhfv.evaluation.reproduce import write_json
from rlhfv.evaluation.reproduce_demo import QUICK, arm_name, base_of, plan_cells
from rlhfv.evaluation.reproduce_page import describe_machine
from rlhfv.models.catalog import find_entry
from rlhfv.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def test_a_run_killed_in_training_goes_on_from_its_checkpoint(tmp_path):
    base = base_of(find_entry("demo"))
    timing = {"about": {"machine": describe_machine(), "base": base}, "seconds": {"visits": 0.1}}
    write_json(tmp_path / "timing.json", timing)
    name = f"{arm_name('dpo', min(QUICK.scaling), QUICK.rates[0], steps=QUICK.steps)}-s1"
    cell = next(one for one in plan_cells(QUICK, base) if one.name == name)
    run = RunFolder(cell.folder(tmp_path))
    start = [sys.executable, "-m", "rlhfv", "reproduce", "--quick", "--work", str(tmp_path), "--only", name]
    with open(tmp_path / "output", "w") as output:
        first = subprocess.Popen(start, cwd=ROOT, stdout=output, stderr=output)
        while run.last_checkpoint() is None:
            assert first.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.005)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert not cell.is_done(tmp_path)
        subprocess.run(start, cwd=ROOT, stdout=output, stderr=output, check=True, timeout=300)
    states = [event for event in run.read_events()[0] if event.get("state") == "running"]
    assert [event["resumed"] for event in states] == [False, True]
    assert cell.is_done(tmp_path)
    assert len((run.path / "answers.jsonl").read_text().split()) > QUICK.scenes


def test_quick_does_every_experiment_and_then_nothing_again(tmp_path, capsys):
    arm = arm_name("dpo", QUICK.compared, QUICK.rates[0], QUICK.epochs)
    assert cli.main(["reproduce", "--quick", "--work", str(tmp_path), "--only", arm, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["cells"]["missing"]
    assert "cells, 0 of them done" in err
    assert cli.main(["reproduce", "--quick", "--work", str(tmp_path), "--json"]) == 0
    out, _ = capsys.readouterr()
    figures = json.loads(out)
    assert figures["cells"]["missing"] == []
    assert "not measured yet" not in {row["verdict"] for row in figures["findings"]}
    print(f"{figures['cells']['seconds']} s in cells")
    capsys.readouterr()
    assert cli.main(["reproduce", "--quick", "--work", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "Left: 0 cells" in err
    assert out.rstrip() == (tmp_path / "page.md").read_text().rstrip()
