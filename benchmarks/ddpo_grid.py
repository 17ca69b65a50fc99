"""One grid of training settings on validation scenes of the demo world; `python -m benchmarks.ddpo_grid`.

Each cell is one JSON line; a cell whose line is there for this base is not run again, so the command can be stopped.
All cells share batch size, warm-up, schedule and adapter of the recipe `demo` and differ in what they are named by.
"""

import argparse
import json
import random
import shutil
import time
from itertools import product
from pathlib import Path

from benchmarks.demo_pairs import validation_figures
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.train import train
from rlhfv.evaluation.oracle_pairs import oracle_pairs
from rlhfv.evaluation.reproduce_demo import recipe
from rlhfv.models.catalog import find_entry
from rlhfv.models.local import LocalModel

POOL = 1400
WEIGHTS = ("dpo", "paper", "rlhfv-2024", "demo")
SCORES = ((0.1, False), (0.5, True))
RATES = (1e-4, 2e-4)  # at 5e-5 one or two epochs of 600 pairs move nothing
EPOCHS = (2, 4)
RUIN = {"learning_rate": 5e-4, "epochs": 3, "beta": 0.5, "normalised": True}
"""The settings that ruined the first demo model; the run has to warn."""


def configure(weights: str, beta: float, normalised: bool, learning_rate: float, epochs: float, seed: int = 0):
    """The recipe `demo` with another recipe's weights and its own score, rate and epochs."""
    config = recipe(weights, learning_rate, epochs, seed)
    return config.changed(beta=beta, normalised=normalised, include_preferred=False)


def main_cells() -> list[tuple[TrainingConfig, int]]:
    pairs = 600
    cells = [
        (configure(weights, *score, rate, epochs), pairs)
        for rate, epochs, score, weights in product(RATES, EPOCHS, SCORES, WEIGHTS)
    ]
    return [*cells, (configure("demo", **RUIN), pairs)]


def seed_cells() -> list[tuple[TrainingConfig, int]]:
    """200 pairs, three seeds, each seed another draw from the pool."""
    return [
        (configure("demo", *score, rate, epochs, seed), 200)
        for rate, epochs, score, seed in product((1e-4, 2e-4), (2, 4, 6), SCORES, (1, 2, 3))
    ]


def warm_cells() -> list[tuple[TrainingConfig, int]]:
    """With a warm-up on the corrected answers first, and without; a gentle DDPO and the recipe's own."""
    gentle, own = (0.1, False, 1e-4, 2), (0.1, False, 2e-4, 4)
    return [
        (configure("demo", *score, seed).changed(sft_epochs=epochs, sft_learning_rate=rate), 200)
        for score, (epochs, rate), seed in product((gentle, own), ((0, 2e-5), (2, 2e-5), (2, 2e-4)), (1, 2, 3))
    ]


CELLS = {"main": main_cells, "seeds": seed_cells, "warm": warm_cells}


def cell_name(config: TrainingConfig, pairs: int) -> str:
    score = f"beta{config.beta:g}-{'mean' if config.normalised else 'sum'}"
    warm = f"warm{config.sft_epochs:g}x{config.sft_learning_rate:g}-" if config.sft_epochs else ""
    return f"{warm}{config.recipe}-{score}-lr{config.learning_rate:g}-ep{config.epochs:g}-n{pairs}-s{config.seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", choices=CELLS, default="main")
    parser.add_argument("--scenes", type=int, default=300, help="validation scenes")
    parser.add_argument("--only", default="", help="run only cells whose name holds this text")
    parser.add_argument("--work", type=Path, default=Path("build/ddpo"), help="folder for pairs, runs and results")
    options = parser.parse_args()
    entry = find_entry("demo")
    model = LocalModel.load(entry)
    results = options.work / "grid.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    revision = model.identity.revision[:12]
    pool = oracle_pairs(model, entry.world, POOL, options.work / f"pairs-{revision}")
    rows = [row for row in read_rows(results) if (row["base"], row["scenes"]) == (revision, options.scenes)]
    if not any(row["cell"] == "base" for row in rows):
        figures = validation_figures(model, entry.world, None, options.scenes, options.work)
        rows.append(append(results, {"cell": "base", "base": revision, "scenes": options.scenes, **figures}))
    for config, count in CELLS[options.cells]():
        name = cell_name(config, count)
        if options.only not in name or any(row["cell"] == name for row in rows):
            continue
        pairs = pool[:count] if not config.seed else random.Random(config.seed).sample(pool, count)
        row = run_cell(model, entry, config, pairs, options)
        rows.append(append(results, {"cell": name, "base": revision, "scenes": options.scenes, **row}))
        print(json.dumps(rows[-1]), flush=True)
    print_table(rows)


def run_cell(model: LocalModel, entry, config: TrainingConfig, pairs: list, options) -> dict:
    folder = options.work / "run"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    images = options.work / f"pairs-{model.identity.revision[:12]}" / "images"
    result = train(pairs, config, images=images, output=folder)
    seconds = round(time.monotonic() - began, 1)
    voice = model.attach(result.path)
    try:
        figures = validation_figures(model, entry.world, voice, options.scenes, options.work)
    finally:
        model.detach(voice)
    return {
        **figures,
        "weights": config.recipe,
        "beta": config.beta,
        "normalised": config.normalised,
        "learning_rate": config.learning_rate,
        "epochs": config.epochs,
        "pairs": len(pairs),
        "seed": config.seed,
        "seconds": seconds,
        "warnings": list(result.warnings),
        "margin": round(result.figures["rewards/margins"], 3),
        "accuracy": round(result.figures["rewards/accuracies"], 3),
    }


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def append(path: Path, row: dict) -> dict:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    return row


def print_table(rows: list[dict]) -> None:
    """As Markdown, the fewest hallucinating answers first; a star marks cells that keep recall, targets and length."""
    base = next(row for row in rows if row["cell"] == "base")
    columns = ("response_rate", "mention_rate", "recall", "target_recall", "words")
    print("| cell | " + " | ".join(columns) + " | kept | warnings |\n|" + "---|" * (len(columns) + 3))
    for row in sorted(rows, key=lambda row: row["response_rate"]):
        kept = (
            row["recall"] >= base["recall"] - 0.02
            and row["target_recall"] >= base["target_recall"] - 0.03
            and abs(row["words"] / base["words"] - 1) <= 0.1
        )
        figures = " | ".join(f"{row[name]:.3f}" if name != "words" else f"{row[name]:.1f}" for name in columns)
        print(f"| {row['cell']} | {figures} | {'*' if kept else ''} | {', '.join(row.get('warnings', []))} |")


if __name__ == "__main__":
    main()
