"""DDPO against plain DPO on a real model with real corrections: which cells there are, and what they found.

    pairs                        the corrections, taken in once, with their pictures: pairs.jsonl, images/, told.json
    base-on-<benchmark>          the model's own answers: a set of answers (see `answer_sets`)
    <recipe>-s<seed>             a run folder; it trains under accelerate
    <recipe>-s<seed>-on-<benchmark>   its answers to the same questions

Recipes are as published here, unchanged (see `TrainingConfig`); the seed is the order of the pairs, the held-out part
and the adapter's start. Training and answers are cells of their own: another benchmark trains nothing anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

from rlhfv.ddpo.config import find_recipe
from rlhfv.evaluation import pope
from rlhfv.evaluation.answer_sets import AnswerFolder
from rlhfv.evaluation.benchmarks import find_benchmark
from rlhfv.evaluation.files import sha256_of
from rlhfv.evaluation.reproduce import Cell, read_kept
from rlhfv.evaluation.score import Score
from rlhfv.evaluation.seeds import join_items
from rlhfv.models.decoding import Decoding

PAIRS, BASE = "pairs", "base"
PLAIN = "dpo"
RECIPES = ("dpo", "paper", "rlhfv-2024")
SEEDS = 3
USED = (
    *("object-halbench", "chair", "amber-generative", "amber-discriminative"),
    *(f"pope-{split}" for split in pope.SPLITS),
)
"""Benchmarks that are counted without a judge; Object HalBench in its lexical variant."""
EXACT_YES_NO = "amber-discriminative, official reading"
_READINGS = {"amber-discriminative": {"amber-discriminative": "lenient", EXACT_YES_NO: "official"}}
"""A model that is asked plainly says "Yes, there is", which AMBER's own script takes for neither answer."""


@dataclass(frozen=True)
class Experiment:
    """All that decides the cells. `base` identifies the weights, `data` the pairs, `pairs` is how many there are, or
    are expected; `questions` are (sha256, number of items) of each benchmark that is used."""

    base: str
    data: str
    pairs: int
    questions: Mapping[str, tuple[str, int]]
    decoding: Decoding
    recipes: tuple[str, ...] = RECIPES
    seeds: tuple[int, ...] = tuple(range(1, SEEDS + 1))


def plan_cells(experiment: Experiment) -> list[Cell]:
    """All cells; everything with the first seed before the second."""
    data = Cell(
        PAIRS,
        (PAIRS,),
        f"the corrections of {experiment.data.partition('@')[0]}",
        {"kind": "pairs", "v": 1, "data": experiment.data},
        work={PAIRS: experiment.pairs},
    )
    cells = [data, *_answers(experiment, None)]
    for seed in experiment.seeds:
        trained = [_training(experiment, recipe, seed, data) for recipe in experiment.recipes]
        cells += trained
        for cell in trained:
            cells += _answers(experiment, cell)
    return cells


def _training(experiment: Experiment, recipe: str, seed: int, data: Cell) -> Cell:
    config = find_recipe(recipe).changed(seed=seed)
    return Cell(
        f"{recipe}-s{seed}",
        ("training",),
        f"training with the recipe {recipe}, seed {seed}",
        {
            "kind": "training",
            "v": 1,
            "training": {name: value for name, value in config.to_dict().items() if name != "source"},
            "pairs": data.key,
            "base": experiment.base,
        },
        arm=recipe,
        seed=seed,
        needs=(data.name,),
        work={f"training {recipe}": 1},
    )


def _answers(experiment: Experiment, trained: Cell | None) -> list[Cell]:
    voice = trained.name if trained else BASE
    return [
        Cell(
            f"{voice}-on-{name}",
            ("answers",),
            f"{items:,} answers to {find_benchmark(name).title}",
            {
                "kind": "answers",
                "v": 1,
                "benchmark": name,
                "questions": digest,
                "decoding": {"name": experiment.decoding.name, **experiment.decoding.values()},
                "voice": trained.key if trained else BASE,
                "base": experiment.base,
            },
            arm=trained.arm if trained else BASE,
            seed=trained.seed if trained else 0,
            needs=(trained.name,) if trained else (),
            work={f"answers {name}": items},
        )
        for name, (digest, items) in experiment.questions.items()
    ]


def count_pairs(work: Path, cells: Sequence[Cell]) -> dict | None:
    """What taking in the pairs came to: {"format", "pairs", "problems"}; None while they are not here."""
    data = next(cell for cell in cells if cell.name == PAIRS)
    if not data.is_done(work):
        return None
    return read_kept(data.folder(work) / "told.json", lambda row: {**row, "pairs": int(row["pairs"])})


def read_arms(cells: Sequence[Cell], work: Path, root: Path) -> dict[str, dict[str, dict[int, Score]]]:
    """Benchmark → arm → the score of each seed, in their order; `root` is the benchmark folder.

    POPE's three splits stand as one, "pope", where all of them were answered. AMBER's questions are read twice: as a
    person would, and as AMBER's script does (`EXACT_YES_NO`). All scores of a benchmark are of the same items.
    """
    found: dict[str, dict[str, dict[int, Score]]] = {}
    for cell in cells:
        if cell.settings["kind"] != "answers" or not cell.is_done(work):
            continue
        name = cell.settings["benchmark"]
        for shown, variant in _READINGS.get(name, {name: ""}).items():
            score = score_answers(cell.folder(work), name, root, variant)
            found.setdefault(shown, {}).setdefault(cell.arm, {})[cell.seed] = score
    splits = [f"pope-{split}" for split in pope.SPLITS]
    if all(name in found for name in splits):
        parts = [found.pop(name) for name in splits]
        for arm in parts[0]:
            for seed in parts[0][arm]:
                here = [part.get(arm, {}).get(seed) for part in parts]
                if all(here):
                    whole = pope.put_together(dict(zip(pope.SPLITS, here, strict=True)))
                    found.setdefault("pope", {}).setdefault(arm, {})[seed] = whole
    return {
        name: join_items({arm: dict(sorted(scores.items())) for arm, scores in arms.items()})
        for name, arms in found.items()
    }


def score_answers(folder: Path, benchmark: str, root: Path, variant: str = "") -> Score:
    """The score of a cell's answers, from the disk where it was counted from the same files by the same code."""
    what, answers = find_benchmark(benchmark), AnswerFolder(folder)
    key = sha256(f"{variant} {what.state(root)} {_code()}".encode()).hexdigest()[:32]
    score = answers.kept_score(key, what.measures) if what.measures else None
    if score is None:
        score = what.score(root, answers.answers(), variant)
        if what.measures:
            answers.keep_score(key, score)
    return score


@cache
def _code() -> str:
    """Changes with the code that counts."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256("".join(map(sha256_of, files)).encode()).hexdigest()


@dataclass(frozen=True)
class Cost:
    """What a cell took. `seconds` are those of the work itself over all attempts, `memory` bytes at the peak of one
    GPU or of the process; None where it does not train. `machine` is what it ran on."""

    seconds: float
    machine: str
    memory: float | None = None
    on_gpu: bool = False
    pairs_per_second: float | None = None
    estimated_seconds: float | None = None
    estimated_memory: float | None = None
    visits: float = 0
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        return {**vars(self), "warnings": list(self.warnings)}


COST_FILE = "cost.json"


def read_cost(folder: Path) -> Cost | None:
    """None for a cell that did not come to its end."""
    file = Path(folder) / COST_FILE
    if not file.is_file():
        return None
    return read_kept(file, lambda row: replace(Cost(**row), warnings=tuple(row["warnings"])))
