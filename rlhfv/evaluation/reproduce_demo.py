"""RLHF-V's own experiments on a model whose world is known: which cells there are, and how one is done.

    (a) the published recipes, each at two learning rates, and a warm-up before plain DPO
    (b) more and more pairs, under plain DPO (as in the paper's Fig. 2), under the recipe `demo`, and under plain DPO
        with the same number of steps for every number of pairs
    (c) 280 corrections against 280 and 2,800 rankings
    (d) over-generalisation, out of the answers of (a)
    (e) images cropped at random, and not

The published rates (5e-7 for full tuning) move nothing in a LoRA on so small a model. A recipe therefore stands here
for its weights, score, γ, β, seam and treatment of shared tokens; rate, batch, epochs, warm-up, schedule and adapter
are those of the recipe `demo`, or said otherwise. So that no recipe is crippled by one rate that happens to suit
another, (a), (c) and (e) run at two of them, and every comparison is made at both.
"""

import contextlib
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.corrections.pairs import PreferencePair, load_pairs
from rlhfv.ddpo.config import RECIPES, TrainingConfig
from rlhfv.errors import RunFailed
from rlhfv.evaluation.demo_world import BASELINE, MAX_SCENES, EvaluatedVoice, answer_scenes, read_answers
from rlhfv.evaluation.oracle_pairs import oracle_pairs, ranking_pairs
from rlhfv.evaluation.reproduce import Cell, write_score
from rlhfv.evaluation.scene_score import score_scenes
from rlhfv.models.catalog import Entry

if TYPE_CHECKING:
    from rlhfv.models.local import LocalModel

BASE = "base"
WARM = "dpo-warm"
"""Plain DPO after a warm-up on the corrected answers (OPA-DPO)."""
COMPARED = ("dpo", "paper", "rlhfv-2024", "chip-weights", "vl-rlhf", "demo", WARM)
CROPPED = "paper"
"""The recipe whose images are cropped in (e)."""
RATES = (1e-4, 2e-4)
CORRECTIONS, RANKINGS = "corrections", "rankings"
BY_SCENE, BY_HABIT = "over-generalisation by scene", "over-generalisation by habit"


@dataclass(frozen=True)
class Sizes:
    """How large the experiments are; `steps` are those of the arm of (b) that has as many for all numbers of pairs.
    `epochs_few` and `epochs_many` are of (c), see `rankings`."""

    scenes: int
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    compared: int
    scaling: tuple[int, ...]
    steps: int
    few: int
    many: int
    epochs: float
    epochs_few: float
    epochs_many: float


FULL = Sizes(MAX_SCENES, (1, 2, 3), RATES, 400, (100, 200, 400, 800, 1400), 100, 280, 2800, 2, 4, 1)
QUICK = Sizes(25, (1,), (2e-4,), 32, (16, 32), 4, 16, 48, 1, 2, 1)


def recipe(
    name: str, learning_rate: float, epochs: float, seed: int, transform: str = "eval", steps: int | None = None
) -> TrainingConfig:
    """A recipe's weights and score with the rate, batch, epochs and adapter of `demo` (see the top of this module)."""
    own = RECIPES["dpo" if name == WARM else name]
    config = RECIPES["demo"].changed(
        recipe=own.recipe,
        source=own.source,
        gamma=own.gamma,
        beta=own.beta,
        normalised=own.normalised,
        weights=own.weights,
        seam=own.seam,
        shared_weight=own.shared_weight,
        include_preferred=True,
        learning_rate=learning_rate,
        epochs=epochs,
        steps=steps,
        seed=seed,
        eval_fraction=0.0,
    )
    if own.shared_weight == 0:
        config = config.changed(include_preferred=False)
    if transform != "eval":
        config = config.changed(image_transform=transform)
    return config.changed(sft_epochs=2.0, sft_learning_rate=learning_rate) if name == WARM else config


def rankings(sizes: Sizes) -> list[tuple[int, float, float]]:
    """How many rankings are trained on, at which rate, for how many epochs: the few and the many at every rate, the
    many fewer times, so that they do not lose by being seen too often; at the first rate as often as the few too."""
    each = [
        (count, rate, epochs)
        for rate in sizes.rates
        for count, epochs in ((sizes.few, sizes.epochs_few), (sizes.many, sizes.epochs_many))
    ]
    return [*each, (sizes.many, sizes.rates[0], sizes.epochs_few)]


def count_corrections(sizes: Sizes) -> int:
    """How many corrections the pool holds: what the largest arm takes."""
    return max(sizes.compared, *sizes.scaling, sizes.few)


def arm_name(label: str, count: int, learning_rate: float, epochs: float = 0, steps: int | None = None) -> str:
    """How an arm is called, in its cells too."""
    length = f"{steps}steps" if steps else f"{epochs:g}epochs"
    return f"{label}-{count}-{learning_rate:g}-{length}"


def plan_cells(sizes: Sizes, base: str) -> list[Cell]:
    """All cells, everything with the first seed before the second. `base` is the identity of the base's weights."""
    pools = {
        name: Cell(
            name,
            parts,
            f"{count} {text}",
            {"kind": "pool", "v": 1, "judged": name, "count": count, "base": base},
            work={"made": count},
        )
        for name, parts, count, text in (
            (
                CORRECTIONS,
                ("a", "b", "c", "e"),
                count_corrections(sizes),
                "answers of the base, corrected by the oracle",
            ),
            (RANKINGS, ("c",), sizes.many, "pairs of sampled answers of the base, ranked by the oracle"),
        )
    }
    answers = {"scenes": sizes.scenes, "base": base}
    cells = [
        Cell(
            BASE,
            ("a", "b", "c", "d", "e"),
            "answers of the base",
            {"kind": "base", "v": 1, **answers},
            arm=BASE,
            work={"answers": sizes.scenes},
        ),
        pools[CORRECTIONS],
    ]
    by_name: dict[str, Cell] = {}

    def add(parts: str, pool: str, count: int, config: TrainingConfig, label: str) -> None:
        arm = arm_name(label, count, config.learning_rate, config.epochs, config.steps)
        name = f"{arm}-s{config.seed}"
        if name in by_name:
            known = by_name[name]
            merged = Cell(**{**vars(known), "parts": tuple(sorted({*known.parts, *parts}))})
            cells[cells.index(known)] = by_name[name] = merged
            return
        visits = config.steps * config.batch_size if config.steps else count * config.epochs
        crops = config.image_transform != "eval"
        by_name[name] = Cell(
            name,
            tuple(parts),
            f"{count} {pool}, seed {config.seed}",
            {
                "kind": "training",
                "v": 1,
                "training": {name: value for name, value in config.to_dict().items() if name != "source"},
                "pool": pools[pool].key,
                "pairs": count,
                **answers,
            },
            arm=arm,
            seed=config.seed,
            needs=(pool,),
            work={
                "cropped visits" if crops else "visits": visits + count / 3 + config.sft_epochs * count,
                "answers": sizes.scenes,
                "starts": 1,
            },
        )
        cells.append(by_name[name])

    few = RATES[0] if RATES[0] in sizes.rates else sizes.rates[0]
    for number, seed in enumerate(sizes.seeds):
        for rate in sizes.rates:
            for name in COMPARED:
                parts = "ad" if name in ("dpo", "paper") else "a"
                parts += "e" if name == CROPPED else ""
                add(parts, CORRECTIONS, sizes.compared, recipe(name, rate, sizes.epochs, seed), name)
        for count in sizes.scaling:
            for name in ("dpo", "demo"):
                parts = "bd" if (name, count) == ("dpo", max(sizes.scaling)) else "b"
                add(parts, CORRECTIONS, count, recipe(name, few, sizes.epochs, seed), name)
        add("abd", CORRECTIONS, max(sizes.scaling), recipe(CROPPED, few, sizes.epochs, seed), CROPPED)
        if not number:
            cells.append(pools[RANKINGS])
        for rate in sizes.rates:
            for name in ("dpo", "demo"):
                add("c", CORRECTIONS, sizes.few, recipe(name, rate, sizes.epochs_few, seed), name)
        for count, rate, epochs in rankings(sizes):
            add("c", RANKINGS, count, recipe("dpo", rate, epochs, seed), "dpo-ranked")
        for rate in sizes.rates:
            cropped = recipe(CROPPED, rate, sizes.epochs, seed, "random-crop")
            add("e", CORRECTIONS, sizes.compared, cropped, f"{CROPPED}-cropped")
        for count in sizes.scaling:
            add("b", CORRECTIONS, count, recipe("dpo", few, sizes.epochs, seed, steps=sizes.steps), "dpo")
    return cells


class DemoWork:
    """Does the cells of `plan_cells`; keeps the base in memory between them.

    `stopped` is asked between batches; a training run listens to signals by itself while it lasts.
    """

    def __init__(self, entry: Entry, work: Path, cells: list[Cell], stopped: Callable[[], bool] = lambda: False):
        self.entry, self.work, self.stopped = entry, Path(work), stopped
        self.cells = {cell.name: cell for cell in cells}
        self._model: LocalModel | None = None

    @property
    def model(self) -> "LocalModel":
        from rlhfv.models.local import LocalModel

        self._model = self._model or LocalModel.load(self.entry)
        return self._model

    def close(self) -> None:
        if self._model:
            self._model.unload()

    def __call__(self, cell: Cell, folder: Path) -> bool:
        """Whether the cell came to its end."""
        kind = cell.settings["kind"]
        if kind == "pool":
            return self._make_pairs(cell, folder)
        if kind == "base":
            folder.mkdir(parents=True, exist_ok=True)
            return self._answer(cell, folder, EvaluatedVoice(BASELINE, "Baseline"))
        return self._train(cell, folder)

    def _make_pairs(self, cell: Cell, folder: Path) -> bool:
        def go_on(done: int, count: int) -> None:
            if self.stopped():
                raise _Stopped

        make = oracle_pairs if cell.settings["judged"] == CORRECTIONS else ranking_pairs
        try:
            made = make(self.model, self.entry.world, cell.settings["count"], folder, go_on)
        except _Stopped:
            return False
        return len(made) == cell.settings["count"]

    def draw_pairs(self, cell: Cell) -> list[PreferencePair]:
        """The pairs that a training cell is given: a draw of its own from the pool for each seed, or the whole pool,
        where seeds differ in nothing but order and start."""
        pool = load_pairs(self.pool_folder(cell))
        count, seed = cell.settings["pairs"], cell.settings["training"]["seed"]
        return pool if count == len(pool) else random.Random(seed).sample(pool, count)

    def pool_folder(self, cell: Cell) -> Path:
        [pool] = cell.needs
        return self.cells[pool].folder(self.work)

    def _train(self, cell: Cell, folder: Path) -> bool:
        from rlhfv.ddpo.train import run, train
        from rlhfv.run_folder import RunFolder

        adapter = RunFolder(folder).adapter
        if not adapter.is_dir():
            with _output_to(Path(self.work) / "locks" / f"{folder.name}.txt"):
                if folder.is_dir():
                    result = run(folder, self.entry)
                else:
                    config = TrainingConfig.from_dict(cell.settings["training"])
                    images = self.pool_folder(cell) / "images"
                    result = train(self.draw_pairs(cell), config, images=images, output=folder, title=cell.name)
            if result.state != "done":
                return False
        voice = self.model.attach(adapter, cell.name)
        try:
            return self._answer(cell, folder, EvaluatedVoice(voice, cell.name))
        finally:
            self.model.detach(voice)

    def _answer(self, cell: Cell, folder: Path, voice: EvaluatedVoice) -> bool:
        answers, scenes, world = folder / "answers.jsonl", cell.settings["scenes"], self.entry.world
        for _ in answer_scenes(self.model, [voice], world, scenes, answers, self.stopped):
            pass
        said = {row.scene: row.answer for row in read_answers(answers) if row.voice == voice.id}
        if len(said) < scenes:
            return False
        write_score(folder, score_scenes(world, said))
        return True


class _Stopped(Exception):
    pass


@contextmanager
def _output_to(file: Path) -> Iterator[None]:
    """What the libraries print of a run goes to a file: stdout is for data, stderr for the plan's progress."""
    with open(file, "a", encoding="utf-8") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield


def measure_seconds(entry: Entry) -> dict[str, float]:
    """Seconds for a unit of each kind of work, from a short trial of all of them on this machine.

    "made" is a pair made by the oracle, "visits" a pair in a step of training (with its part of the looks at the
    model), "answers" a description, "starts" what every run takes however short it is.
    """
    from rlhfv.models.local import LocalModel

    batch = RECIPES["demo"].batch_size
    with tempfile.TemporaryDirectory(prefix="rlhfv-timing-") as place:
        folder = Path(place)
        model = LocalModel.load(entry)
        began = time.monotonic()
        pairs = oracle_pairs(model, entry.world, 3 * batch, folder / "pairs")
        made = (time.monotonic() - began) / len(pairs)
        began = time.monotonic()
        for _ in answer_scenes(model, [EvaluatedVoice(BASELINE, "")], entry.world, 50, folder / "answers.jsonl"):
            pass
        answers = (time.monotonic() - began) / 50
        model.unload()
        short, long = (
            _seconds_of_run(pairs, folder, name, 1e-4, steps) for name, steps in (("short", 1), ("long", 7))
        )
        cropped = _seconds_of_run(pairs, folder, "cropped", 1e-4, 7, "random-crop")
    visit, cropped_visit = ((seconds - short) / (6 * batch) for seconds in (long, cropped))
    if visit <= 0:
        raise RunFailed(
            "The short timing came out below nothing.", "The machine is very busy.", "Start it again in a while."
        )
    return {
        "made": made,
        "visits": visit,
        "cropped visits": max(visit, cropped_visit),
        "answers": answers,
        "starts": max(0.0, short - batch * visit),
    }


def _seconds_of_run(pairs, folder: Path, name: str, rate: float, steps: int, transform: str = "eval") -> float:
    from rlhfv.ddpo.train import train

    config = recipe("demo", rate, 1, 0, transform, steps)
    began = time.monotonic()
    with _output_to(Path(os.devnull)):
        train(pairs, config, images=folder / "pairs" / "images", output=folder / name)
    return time.monotonic() - began


def base_of(entry: Entry) -> str:
    """What identifies the base's weights: they decide every figure."""
    from rlhfv.ddpo.base import base_identity

    return base_identity(entry).revision[:12]
