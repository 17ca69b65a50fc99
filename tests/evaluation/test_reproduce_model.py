"""The plan, the verdicts, the published figures and the price of DDPO against DPO on a real model."""

from dataclasses import replace

import numpy as np
import pytest

from rlhfv.evaluation import model_claims, published
from rlhfv.evaluation.benchmarks import benchmarks
from rlhfv.evaluation.bootstrap import Figure
from rlhfv.evaluation.chair import MEASURES
from rlhfv.evaluation.claims import BETTER, HELD, MISSING, NOT_HELD, TOO_SMALL, UNDECIDED, Claim, Finding, check_claims
from rlhfv.evaluation.model_claims import CONTEST, hold_contests, list_claims
from rlhfv.evaluation.model_report import Made, build_report, list_costs, write_model_report
from rlhfv.evaluation.reproduce import choose_cells, write_json
from rlhfv.evaluation.reproduce_model import BASE, COST_FILE, RECIPES, USED, Cost, Experiment, plan_cells, read_cost
from rlhfv.evaluation.score import Score
from rlhfv.models.decoding import DECODINGS

ASKED = Experiment(
    base=f"{published.MODEL}@{'b' * 40}",
    data=f"openbmb/RLHF-V-Dataset@{'a' * 40}",
    pairs=5733,
    questions={name: (f"{name} questions", 10) for name in USED},
    decoding=DECODINGS["greedy"],
)


def test_every_recipe_has_three_seeds_and_every_voice_answers_everything():
    cells = plan_cells(ASKED)
    names = [cell.name for cell in cells]
    assert len(set(names)) == len(cells) == 1 + 9 + (1 + 9) * len(USED)
    trained = [cell for cell in cells if cell.settings["kind"] == "training"]
    assert {(cell.arm, cell.seed) for cell in trained} == {(name, seed) for name in RECIPES for seed in (1, 2, 3)}
    assert names.index("rlhfv-2024-s1-on-chair") < names.index("dpo-s2"), "a first page after the first seed"
    known = set()
    for cell in cells:
        assert known >= set(cell.needs), "what a cell needs comes before it"
        known.add(cell.name)
    paper = next(cell for cell in trained if cell.name == "paper-s2").settings["training"]
    assert (paper["gamma"], paper["beta"], paper["normalised"], paper["batch_size"], paper["epochs"]) == (
        5,
        0.5,
        True,
        32,
        7,
    )
    assert paper["seed"] == 2 and paper["learning_rate"] == 1e-5, "the recipe as it is published"
    chosen = [cell.name for cell in choose_cells(cells, ["paper-s3-on-pope-random"])]
    assert chosen == ["pairs", "paper-s3", "paper-s3-on-pope-random"]


def test_only_what_depends_on_a_change_is_done_anew():
    def changed(**fields):
        before, after = (
            {cell.name: cell.key for cell in plan_cells(one)} for one in (ASKED, replace(ASKED, **fields))
        )
        return {name for name in before if before[name] != after[name]}

    answers = {cell.name for cell in plan_cells(ASKED) if cell.settings["kind"] == "answers"}
    assert changed(questions={**ASKED.questions, "chair": ("others", 9)}) == {one for one in answers if "chair" in one}
    assert changed(decoding=DECODINGS["rlhfv"]) == answers
    assert changed(pairs=10) == set(), "how many are expected decides nothing"
    assert changed(data="other@1") == {cell.name for cell in plan_cells(ASKED) if not cell.name.startswith("base-")}
    assert "pairs" not in changed(base="other@1") and len(changed(base="other@1")) == len(plan_cells(ASKED)) - 1


def finding(gain, seeds, benchmark="chair", recipe="paper"):
    claim = Claim("", "", "", benchmark, "response_rate", "dpo", recipe, BETTER, 1.0)
    if gain is None:
        return Finding(claim, MISSING)
    held = gain[0] > 0 and min(seeds) > 0
    verdict = HELD if held else NOT_HELD if gain[1] < 1 else UNDECIDED
    return Finding(claim, verdict, None, None, Figure(sum(gain) / 2, *gain), seeds)


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        ([((1, 3), (1, 2, 3)), ((-1, 1), (0, 1, -1))], "better than DPO"),
        ([((-3, -1), (-1, -2, -3)), ((-1, 2), (0, 1, -1))], "worse than DPO"),
        ([((1, 3), (1, 2, 3)), ((-3, -1), (-1, -2, -3))], "mixed"),
        ([((-1, 0.5), (0, 1, -1)), ((-1, 3), (1, 1, 1))], "undecided"),
        ([((-3, -1), (-1, -2, 1))], "undecided"),  # one seed says otherwise
        ([(None, ())], "not measured yet"),
    ],
)
def test_who_wins_follows_the_stated_rule(findings, verdict):
    [contest] = hold_contests([finding(*one) for one in findings])
    assert contest.verdict == verdict
    assert verdict in str(contest) and contest.recipe in str(contest)


def test_who_wins_is_said_with_the_seeds_it_rests_on():
    early = finding((1, 3), (2,))
    [contest] = hold_contests([early], 3)
    assert "is **better than DPO**, 1 of 3 seeds (for DDPO" in str(contest)
    [whole] = hold_contests([finding((1, 3), (1, 2, 3))], 3)
    assert "is **better than DPO** (for DDPO" in str(whole)
    small = replace(finding((0.1, 0.5), (0.2, 0.3, 0.4)), verdict=TOO_SMALL)
    assert hold_contests([small], 3)[0].verdict == "better than DPO", "as the rule says, however small"
    assert "however small" in model_claims.RULE


def test_each_ddpo_recipe_meets_dpo_on_what_was_measured():
    claims = list_claims(RECIPES, ("chair", "pope"))
    met = [(claim.after, claim.benchmark) for claim in claims if claim.before == "dpo"]
    assert met == [(recipe, name) for recipe in ("paper", "rlhfv-2024") for name in ("chair", "pope")]
    assert not [claim for claim in list_claims(("paper",), USED) if claim.before == "dpo"]
    assert {benchmark for benchmark, *_ in CONTEST} <= {*benchmarks(), "pope"}
    assert f"Up to {len(CONTEST)} measures" in model_claims.RULE


def test_the_published_figures_are_there_with_their_sources():
    found = {
        (one.source.partition(",")[0], one.of, one.benchmark, one.measure): one.value for one in published.FIGURES
    }
    objects, questions = "object-halbench", "amber-discriminative"
    assert found["RLAIF-V", "base", objects, "response_rate"] == 54.5
    assert found["RLAIF-V", "base", objects, "mention_rate"] == 27.8
    assert found["RLAIF-V", "dpo", objects, "response_rate"] == 28.5
    assert found["RLAIF-V", "dpo", objects, "mention_rate"] == 12.3
    assert found["TPO (token-level)", "dpo", questions, "f1"] == 82.1
    assert found["TPO (token-level)", "ddpo", questions, "f1"] == 78.5
    assert all("arXiv" in one.source and one.counted for one in published.FIGURES)


def score(wrong, seed):
    generator = np.random.default_rng(seed)
    bad = (generator.random(200) < wrong).astype(float)
    ones = np.ones(200)
    counts = {"answers": ones, "with_invented": bad, "mentions": 3 * ones, "invented": bad}
    counts |= {"recalled": ones, "there": 2 * ones, "words": 9 * ones}
    return Score(
        "chair", "chair, as a test counts", tuple(map(str, range(200))), counts, MEASURES, bad > 0, ((),) * 200
    )


def test_the_page_says_who_is_better_and_which_seeds_it_pooled(tmp_path):
    asked = replace(ASKED, questions={"chair": ("q", 200)})
    cells = plan_cells(asked)
    rates = {BASE: 0.6, "dpo": 0.5, "paper": 0.2, "rlhfv-2024": 0.5}
    arms = {
        "chair": {
            arm: {seed: score(rate, 10 * seed + place) for seed in ((0,) if arm == BASE else (1, 2, 3))}
            for place, (arm, rate) in enumerate(rates.items())
        }
    }
    report, contests = build_report(cells, Made(asked, "DDPO against DPO", left_out=("pope-random",)), tmp_path, arms)
    assert [contest.verdict for contest in contests] == ["better than DPO", "undecided"]
    about = dict(report.about)
    assert "is **better than DPO** (for DDPO: CHAIR response rate)" in about["DDPO against DPO"]
    assert about["Left out, as was asked for"] == "pope-random" and "max new tokens 1024" in about["Answers"]
    pooled = next(one for one in report.findings if one.claim.after == "paper")
    assert len(pooled.seeds) == 3 and pooled.before.value == pytest.approx(50, abs=6)
    assert check_claims([pooled.claim], arms, (BASE,))[0].change.low > 0


def test_the_price_is_that_of_the_whole_time_of_the_cells(tmp_path):
    cells = [cell for cell in plan_cells(replace(ASKED, questions={"chair": ("q", 2)})) if cell.seed < 2]
    for cell, seconds, took in (
        (cells[2], 90.0, 100),
        (next(c for c in cells if c.name == "dpo-s1-on-chair"), 5.0, 20),
    ):
        folder = cell.folder(tmp_path)
        write_json(folder / "done.json", {"seconds": took})
        trained = {"memory": 2e9, "pairs_per_second": 1.5, "on_gpu": True} if cell.name == "dpo-s1" else {}
        write_json(folder / COST_FILE, Cost(seconds, "one GPU", **trained, warnings=("shorter answers",)).to_dict())
        assert read_cost(folder).warnings == ("shorter answers",)
    [row] = list_costs(cells, tmp_path, 3.0)
    assert (row["arm"], row["training_seconds"], row["answering_seconds"], row["all_seconds"]) == ("dpo", 90, 5, 120)
    assert row["dollars"] == 0.1 and list_costs(cells, tmp_path, None)[0]["dollars"] is None


def test_a_page_can_be_written_before_anything_is_done(tmp_path):
    page = tmp_path / "page.md"
    figures = write_model_report(plan_cells(ASKED), Made(ASKED, "DDPO against DPO"), tmp_path, tmp_path, page)
    assert figures["cells"]["done"] == [] and "nothing has run yet" in page.read_text()
    assert "DDPO `paper`: not measured yet; DDPO `rlhfv-2024`: not measured yet" in page.read_text()
    assert "| 54.5 | RLAIF-V" in page.read_text() and page.with_suffix(".json").is_file()
