"""The cells of an experiment: planned, estimated, done once, resumed after a kill."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlhfv.errors import InvalidData, RunFailed
from rlhfv.evaluation import reproduce
from rlhfv.evaluation.reproduce import (
    Cell,
    Timing,
    choose_cells,
    kept_timing,
    read_score,
    run_cells,
    write_json,
    write_score,
)
from rlhfv.evaluation.reproduce_demo import BASE, FULL, QUICK, RANKINGS, arm_name, plan_cells
from rlhfv.evaluation.score import Measure, Score

ROOT = Path(__file__).resolve().parents[2]


def cell(name, *needs, parts=("a",), **settings):
    return Cell(
        name, parts, f"the cell {name}", {"name": name, **settings}, arm=name, needs=needs, work={"visits": 10}
    )


def note(cell, folder):
    write_json(folder / "noted.json", cell.name)
    return True


def test_each_cell_is_done_once_and_in_order(tmp_path):
    cells = [cell("first"), cell("last", "middle"), cell("middle", "first")]
    told, done = [], []

    def act(cell, folder):
        done.append(cell.name)
        return note(cell, folder)

    assert run_cells(cells, tmp_path, act, told.append) == {}
    assert done == ["first", "middle", "last"]
    assert all(one.is_done(tmp_path) for one in cells)
    run_cells(cells, tmp_path, act, told.append)
    assert done == ["first", "middle", "last"]
    assert told[0] == "first: the cell first"
    assert json.loads((cells[0].folder(tmp_path) / "done.json").read_text())["settings"] == {"name": "first"}


def test_another_setting_is_another_cell(tmp_path):
    before, after = cell("one", rate=1), cell("one", rate=2)
    assert run_cells([before], tmp_path, note, str) == {}
    assert not after.is_done(tmp_path)
    assert before.key == cell("one", rate=1, parts=("b", "c")).key
    run_cells([after], tmp_path, note, str)
    assert before.is_done(tmp_path)
    assert after.is_done(tmp_path)


def test_a_stopped_cell_is_not_done_and_its_time_is_kept(tmp_path):
    [one] = cells = [cell("one")]
    assert run_cells(cells, tmp_path, lambda *_: False, str) == {}
    assert not one.is_done(tmp_path)
    (tmp_path / "locks" / f"{one.folder(tmp_path).name}.seconds").write_text("40.0")
    assert run_cells(cells, tmp_path, note, str, lambda: True) == {}
    assert not one.is_done(tmp_path)
    run_cells(cells, tmp_path, note, str)
    assert one.seconds_taken(tmp_path) >= 40


@pytest.mark.parametrize("text", ["", "4 0", "\0\0"])
def test_a_time_that_a_kill_has_torn_counts_as_none(tmp_path, text):
    [one] = cells = [cell("one")]
    kept = tmp_path / "locks" / f"{one.folder(tmp_path).name}.seconds"
    write_json(kept, 0)
    kept.write_text(text)
    assert run_cells(cells, tmp_path, note, str) == {}
    assert one.seconds_taken(tmp_path) < 40


def test_the_time_spent_is_replaced_in_one_step(tmp_path, monkeypatch):
    """Killed before the new text is in its place, the old one stands."""
    [one] = cells = [cell("one")]
    run_cells(cells, tmp_path, lambda *_: False, str)
    kept = tmp_path / "locks" / f"{one.folder(tmp_path).name}.seconds"
    kept.write_text("40.0")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run_cells(cells, tmp_path, lambda *_: False, str)
    assert kept.read_text() == "40.0"


def test_what_needs_a_failed_cell_is_left_and_the_rest_is_done(tmp_path):
    cells = [cell("broken"), cell("waits", "broken"), cell("fine")]

    def act(cell, folder):
        if cell.name == "broken":
            raise RunFailed("It broke.", "So it was written.", "Mend it.")
        return note(cell, folder)

    failed = run_cells(cells, tmp_path, act, str)
    assert failed.keys() == {"broken", "waits"}
    assert [one.is_done(tmp_path) for one in cells] == [False, False, True]


def test_a_cell_of_another_process_is_waited_for(tmp_path, monkeypatch):
    cells = [cell("one"), cell("two", "one")]
    monkeypatch.setattr(reproduce.time, "sleep", lambda _: note_and_leave())
    lock = reproduce._claimed(cells[0], tmp_path)
    assert lock.__enter__()

    def note_and_leave():
        note(cells[0], cells[0].folder(tmp_path))
        write_json(cells[0].folder(tmp_path) / "done.json", {"seconds": 1.0})
        lock.__exit__(None, None, None)

    done = []
    run_cells(cells, tmp_path, lambda one, folder: done.append(one.name) or note(one, folder), str)
    assert done == ["two"]


WORKER = """
    import os, sys, time
    from pathlib import Path
    from rlhfv.evaluation.reproduce import Cell, run_cells

    def act(cell, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "lines", "a") as file:
            while len((folder / "lines").read_text()) < 20:
                file.write("x")
                file.flush()
                time.sleep(0.05)
        return True

    cells = [Cell(name, ("a",), name, {"name": name}) for name in ("one", "two")]
    run_cells(cells, Path(sys.argv[1]), act, lambda text: print(text, flush=True))
"""


def test_a_killed_cell_goes_on_where_it_was(tmp_path):
    start = [sys.executable, "-c", textwrap.dedent(WORKER), str(tmp_path)]
    first = subprocess.Popen(start, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline().startswith("one")
    folder = Cell("one", (), "", {"name": "one"}).folder(tmp_path)
    while not (folder / "lines").is_file() or len((folder / "lines").read_text()) < 5:
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not (folder / "done.json").is_file()
    subprocess.run(start, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=60)
    assert (folder / "lines").read_text() == "x" * 20
    assert (folder / "done.json").is_file()


def test_cells_are_chosen_with_what_they_need():
    cells = [cell("base"), cell("pool", parts=("b",)), cell("train-1", "pool", parts=("b",)), cell("train-2", "pool")]

    def names(*only):
        return [one.name for one in choose_cells(cells, only)]

    assert names() == ["base", "pool", "train-1", "train-2"]
    assert names("train-2") == ["pool", "train-2"]
    assert names("b") == ["pool", "train-1"]
    assert names("train") == ["pool", "train-1", "train-2"]
    with pytest.raises(InvalidData, match="No cell is called 'nothing'"):
        names("nothing")


def test_the_estimate_is_work_times_measured_seconds(tmp_path):
    asked = []

    def measure():
        asked.append(1)
        return {"visits": 0.5}

    timing = kept_timing(tmp_path, {"machine": "this"}, measure)
    assert timing.total([cell("one"), cell("two")]) == 10
    assert kept_timing(tmp_path, {"machine": "this"}, measure) == timing
    assert len(asked) == 1
    kept_timing(tmp_path, {"machine": "another"}, measure)
    assert len(asked) == 2


def test_a_score_comes_back_as_it_was(tmp_path):
    measures = (Measure("rate", "rate", "percent", "lower", lambda sums: 100 * sums["wrong"] / sums["all"]),)
    counts = {"wrong": np.array([1, 0, 1]), "all": np.array([1, 1, 1])}
    score = Score("some", "a way", ("x", "y", "z"), counts, measures, np.array([True, False, True]), ((),) * 3, ("n",))
    score = replace(score, clusters=("one.jpg", "one.jpg", "two.jpg"))
    write_score(tmp_path, score)
    again = read_score(tmp_path, "some", measures)
    assert again.figures() == score.figures() == {"rate": 66.7}
    assert (again.ids, again.variant, again.notes) == (score.ids, score.variant, score.notes)
    assert again.clusters == score.clusters
    row = json.loads((tmp_path / "score-some.json").read_text())
    write_json(tmp_path / "score-some.json", {name: row[name] for name in row if name != "clusters"})
    assert read_score(tmp_path, "some", measures).clusters == (), "as it was written before there were any"


def test_the_full_plan_is_what_was_asked_for():
    cells = plan_cells(FULL, "base")
    names = [one.name for one in cells]
    assert len(names) == len(set(names)) == len({one.folder(Path()) for one in cells})
    for seed in FULL.seeds:
        for rate in FULL.rates:
            for name in ("dpo", "paper", "rlhfv-2024", "chip-weights", "vl-rlhf", "demo", "dpo-warm"):
                assert f"{arm_name(name, 400, rate, 2)}-s{seed}" in names
        for count in (100, 200, 400, 800, 1400):
            assert f"{arm_name('dpo', count, 1e-4, 2)}-s{seed}" in names
        for count in (280, 2800):
            assert f"{arm_name('dpo-ranked', count, 1e-4, 4)}-s{seed}" in names
        assert f"{arm_name('dpo-ranked', 2800, 1e-4, 1)}-s{seed}" in names
        assert f"{arm_name('dpo', 280, 1e-4, 4)}-s{seed}" in names
    seeds = [one.seed for one in cells if one.arm and one.arm != BASE]
    assert seeds == sorted(seeds)  # all of the first seed come first
    ranked = next(one for one in cells if one.arm.startswith("dpo-ranked"))
    assert ranked.needs == (RANKINGS,)
    assert ranked.settings["training"]["include_preferred"]
    assert all(need in names[: names.index(one.name)] for one in cells for need in one.needs)


def test_a_recipe_keeps_its_weights_and_takes_the_demo_s_rate():
    by_name = {one.arm: one.settings["training"] for one in plan_cells(FULL, "base") if one.seed == 1}
    paper = by_name[arm_name("paper", 400, 1e-4, 2)]
    assert (paper["gamma"], paper["beta"], paper["normalised"], paper["seam"]) == (5.0, 0.5, True, False)
    assert (paper["learning_rate"], paper["batch_size"], paper["lora_rank"]) == (1e-4, 16, 16)
    assert by_name[arm_name("vl-rlhf", 400, 1e-4, 2)]["shared_weight"] == 0
    assert by_name[arm_name("dpo-warm", 400, 2e-4, 2)]["sft_epochs"] == 2
    assert by_name[arm_name("paper-cropped", 400, 2e-4, 2)]["image_transform"] == "random-crop"
    assert "source" not in paper


def test_the_quick_plan_is_the_same_path_made_small():
    full, quick = (plan_cells(sizes, "base") for sizes in (FULL, QUICK))
    kinds = [{one.arm.split("-")[0] for one in cells} for cells in (full, quick)]
    assert kinds[0] == kinds[1]
    assert {part for one in quick for part in one.parts} == set("abcde")
    rough = Timing({"visits": 0.05, "cropped visits": 0.1, "answers": 0.05, "starts": 4, "made": 0.1})
    assert rough.total(quick) < 300
