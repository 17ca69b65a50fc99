"""Makes the adapter that ships with the demo model: `python -m benchmarks.train_aligned`.

DDPO with the recipe `demo` on oracle pairs of the base's own answers, greedy and sampled, from the scenes of the split
"pairs". The settings come from benchmarks/ddpo_grid.py; the figures printed here are of validation scenes.
"""

import argparse
import json
import shutil
from pathlib import Path

from benchmarks.demo_pairs import validation_figures
from rlhfv.ddpo.config import RECIPES
from rlhfv.ddpo.train import train
from rlhfv.evaluation.oracle_pairs import oracle_pairs
from rlhfv.models.catalog import DEMO_FOLDER, find_entry
from rlhfv.models.local import LocalModel

NAME = "aligned"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1400, help="oracle pairs")
    parser.add_argument("--scenes", type=int, default=300, help="validation scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("build/ddpo"), help="folder for pairs and the run")
    parser.add_argument("--adapter", type=Path, default=DEMO_FOLDER / "adapter", help="where the adapter goes")
    options = parser.parse_args()
    entry = find_entry("demo")
    model = LocalModel.load(entry)
    source = options.work / f"pairs-{model.identity.revision[:12]}"
    pairs = oracle_pairs(model, entry.world, options.pairs, source)
    folder = options.work / NAME
    shutil.rmtree(folder, ignore_errors=True)
    # The recipe suits the few hundred pairs of one sitting; 1,400 get there at half the rate in half the epochs.
    config = RECIPES["demo"].changed(learning_rate=1e-4, epochs=2, eval_fraction=0.0, seed=options.seed)
    result = train(pairs, config, images=source / "images", output=folder, title="Aligned demo model")
    voice = model.attach(result.path)
    figures = {
        name: validation_figures(model, entry.world, who, options.scenes, options.work)
        for name, who in (("baseline", None), ("aligned", voice))
    }
    shutil.rmtree(options.adapter, ignore_errors=True)
    shutil.copytree(result.path, options.adapter)
    shutil.copy(folder / "events.jsonl", options.adapter / "training_events.jsonl")
    if (grid := options.work / "grid.jsonl").is_file():
        shutil.copy(grid, options.adapter)
    print(json.dumps({"voice": voice, "warnings": result.warnings, "validation": figures}, indent=1))


if __name__ == "__main__":
    main()
