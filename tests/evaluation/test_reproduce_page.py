"""The page of the experiments: what is done, what is missing, and verdicts out of figures."""

import json
import platform
import random
from dataclasses import replace

import pytest

from rlhfv.evaluation.demo_claims import list_claims
from rlhfv.evaluation.demo_report import build_report, score_habits
from rlhfv.evaluation.demo_world import SceneAnswer
from rlhfv.evaluation.reproduce import Timing, write_json, write_score
from rlhfv.evaluation.reproduce_demo import BASE, CORRECTIONS, FULL, QUICK, RANKINGS, plan_cells
from rlhfv.evaluation.reproduce_page import (
    count_mirrored,
    describe_machine,
    describe_missing,
    render_plan,
    write_report,
)
from rlhfv.evaluation.scene_score import score_scenes
from rlhfv.models.catalog import find_entry
from rlhfv.models.demo.language import describe
from rlhfv.models.demo.scenes import scene_from_source
from rlhfv.models.demo.world import DemoWorld

WORLD = DemoWorld()
SIZES = replace(QUICK, scenes=8)
SOURCES = [f"demo:test/{number}" for number in range(SIZES.scenes)]


def finish(cell, work, wrong):
    """Writes what the cell would have left, with an absent object in so many of its answers."""
    folder, answers = cell.folder(work), {}
    for number, source in enumerate(SOURCES):
        scene = scene_from_source(source)
        answers[source] = describe(scene, random.Random(0), habits=False)
        if number < wrong:
            absent = next(name for name in ("fork", "toilet") if name not in scene.counts())
            answers[source] += f" There is a {absent} on the left."
    write_score(folder, score_scenes(WORLD, answers))
    lines = [json.dumps(vars(SceneAnswer(source, cell.name, text))) for source, text in answers.items()]
    (folder / "answers.jsonl").write_text("\n".join(lines) + "\n")
    write_json(folder / "done.json", {"v": 1, "cell": cell.name, "settings": cell.settings, "seconds": 60.0})


@pytest.fixture
def cells():
    return plan_cells(SIZES, "0" * 12)


@pytest.fixture
def half(cells, tmp_path):
    """A work folder in which the base and most arms of (a) and (b) are done; no pairs, no rankings, no crops."""
    for cell in cells:
        if cell.arm and not cell.arm.startswith(("dpo-ranked", "paper-cropped")):
            finish(cell, tmp_path, 6 if cell.arm == BASE else 0)
    return tmp_path


def test_the_page_says_what_is_missing_and_what_held(cells, half, tmp_path):
    page = tmp_path / "page.md"
    report = build_report(cells, SIZES, half, find_entry("demo"), "0" * 12)
    figures = write_report(report, half, page)
    text = page.read_text()
    assert json.loads(page.with_suffix(".json").read_text()) == json.loads(json.dumps(figures))
    assert figures["cells"]["missing"] == [cell.name for cell in cells if not cell.is_done(half)]
    assert set(figures["cells"]["missing"]) >= {CORRECTIONS, RANKINGS}
    verdicts = {(row["said"], row["note"]): row["verdict"] for row in figures["findings"]}
    assert len(verdicts) == len(list_claims(SIZES))
    held = [said for (said, _), verdict in verdicts.items() if verdict == "held"]
    assert "Training on corrections lowers the share of answers that name an absent object." in held
    assert "1.4k corrections make 34.8 % fewer hallucinations." in held
    missing = {said for (said, _), verdict in verdicts.items() if verdict == "not measured yet"}
    assert any("random crops" in said for said in missing)
    assert any("rankings" in said for said in missing)
    assert "**held**" in text
    assert "*not measured yet*" in text
    assert "| base | – | 75.0 % [37.5, 100.0] |" in text
    opposite = [row for row in figures["findings"] if row["said"].startswith("Plain DPO is better")]
    assert count_mirrored(list_claims(SIZES)) == len(opposite) > 0
    assert f"there are {len(verdicts) - len(opposite)} experiments" in text
    for where in ("Table 1", "Table 2", "Table 3", "Fig. 2"):
        assert where in text
    assert platform.node() not in text
    assert describe_machine() in text


def test_a_page_of_nothing_is_a_page_too(cells, tmp_path):
    report = build_report(cells, SIZES, tmp_path, find_entry("demo"), "0" * 12)
    figures = write_report(report, tmp_path, tmp_path / "page.md")
    assert {row["verdict"] for row in figures["findings"]} == {"not measured yet"}
    assert "Nothing of it is done yet." in (tmp_path / "page.md").read_text()


def test_every_claim_names_arms_of_the_plan_and_each_arm_is_shown(cells, tmp_path):
    arms = {cell.arm for cell in cells}
    for claim in list_claims(SIZES):
        assert {claim.before, claim.after} <= arms, claim
    report = build_report(cells, SIZES, tmp_path, find_entry("demo"), "0" * 12)
    assert {name for table in report.tables for _, name in table.rows} == arms - {""}


def test_a_habit_over_generalises_where_its_trigger_is_seen():
    """A couch makes the answer name a television that is not there; elsewhere none is named wrongly."""
    with_couch = [f"demo:test/{number}" for number in range(200) if sees(f"demo:test/{number}", "couch", "television")]
    without = [f"demo:test/{number}" for number in range(200) if sees(f"demo:test/{number}", "television", "couch")]
    answers = dict.fromkeys(with_couch + without, "There is a television on the left.")
    figures = score_habits(WORLD, answers).figures()
    share = 100 * len(with_couch) / len(answers)
    assert len(with_couch) > 1 < len(without)
    assert figures["h_s couch"] == 100
    assert figures["h_a couch"] == pytest.approx(share, abs=0.1)
    assert figures["delta couch"] == pytest.approx(100 - share, abs=0.1)


def sees(source, there, absent):
    counts = scene_from_source(source).counts()
    return there in counts and absent not in counts


def test_the_plan_is_printed_with_what_is_left_and_how_long_it_takes(cells, half):
    timing = Timing({"visits": 0.05, "cropped visits": 0.1, "answers": 0.05, "starts": 4.0, "made": 0.1})
    lines = render_plan(cells, half, timing)
    missing = [cell for cell in cells if not cell.is_done(half)]
    assert lines[0] == f"{len(cells)} cells, {len(cells) - len(missing)} of them done:"
    assert len(lines) == len(cells) + 3
    assert sum(line.endswith("done") for line in lines) == len(cells) - len(missing)
    columns = {line.index(cell.what) + len(cell.what) for line, cell in zip(lines[1:], cells, strict=False)}
    assert all(line[max(columns) : max(columns) + 2] == "  " for line in lines[1 : len(cells) + 1])
    assert f"Left: {len(missing)} cells, about {timing.total(missing):.0f} s in one process" in lines[-1]


def test_many_missing_cells_are_counted_and_few_are_named(cells):
    assert describe_missing(cells, ["rankings"]) == "rankings"
    assert describe_missing(cells, [cell.name for cell in cells]).startswith(f"{len(cells)} cells (")


def test_a_verdict_says_on_how_many_of_the_planned_seeds_it_rests(tmp_path):
    sizes = replace(SIZES, seeds=(1, 2, 3))
    cells = plan_cells(sizes, "0" * 12)
    for cell in cells:
        if cell.arm == BASE or (cell.arm.startswith("paper-32-") and cell.seed == 1):
            finish(cell, tmp_path, 6 if cell.arm == BASE else 0)
    report = build_report(cells, sizes, tmp_path, find_entry("demo"), "0" * 12)
    figures = write_report(report, tmp_path, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert {row["seeds_planned"] for row in figures["findings"]} == {3}
    assert "**held**, 1 of 3 seeds |" in text and "**held** |" not in text
    decided = [row for row in figures["findings"] if row["verdict"] != "not measured yet"]
    assert f" {len(decided)} of them rest on some of the planned seeds only" in text


def test_what_random_crops_cost_is_claimed_as_the_paper_has_it():
    """Table 3: 77.1 with crops, 80.0 without. The rule asks for a gain, so that the claim is of a cost."""
    [crops] = [claim for claim in list_claims(SIZES) if "crops" in claim.said and claim.measure == "recall"]
    assert (crops.said, crops.rule) == ("Random crops cost ability.", "better")
    assert "cropped" in crops.before and "cropped" not in crops.after


def test_the_page_says_where_seeds_draw_no_pairs_of_their_own(cells, tmp_path):
    report = build_report(cells, FULL, tmp_path, find_entry("demo"), "0" * 12)
    told = dict(report.about)["Seeds"]
    assert "takes the whole pool (1,400 corrections, 2,800 rankings), seeds differ in order and start only" in told
    assert "the variance of the draw is not in their intervals" in told
