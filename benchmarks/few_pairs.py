"""What the corrections of one sitting do: `python -m benchmarks.few_pairs`.

The recipe `demo` as it is, on 200 oracle pairs of the base's own answers; three times, each with another draw of the
pairs and another seed. Measured on the test scenes, each run paired by scene with the baseline.
"""

import argparse
import json
import random
import shutil
from pathlib import Path
from statistics import fmean

from benchmarks.ddpo_grid import POOL
from rlhfv.ddpo.config import RECIPES
from rlhfv.ddpo.train import train
from rlhfv.evaluation.demo_world import BASELINE, MAX_SCENES, EvaluatedVoice, answer_scenes, read_answers
from rlhfv.evaluation.oracle_pairs import oracle_pairs
from rlhfv.evaluation.report import FIGURES, build_results, render_table
from rlhfv.models.catalog import find_entry
from rlhfv.models.local import LocalModel

SEEDS = (1, 2, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--scenes", type=int, default=MAX_SCENES, help="test scenes")
    parser.add_argument("--work", type=Path, default=Path("build/ddpo"), help="folder for pairs, runs and answers")
    options = parser.parse_args()
    entry = find_entry("demo")
    model = LocalModel.load(entry)
    source = options.work / f"pairs-{model.identity.revision[:12]}"
    pool = oracle_pairs(model, entry.world, POOL, source)
    folder = options.work / f"few-{options.pairs}"
    shutil.rmtree(folder, ignore_errors=True)
    voices = [EvaluatedVoice(BASELINE, "Baseline")]
    for seed in SEEDS:
        config = RECIPES["demo"].changed(eval_fraction=0.0, seed=seed)
        pairs = random.Random(seed).sample(pool, options.pairs)
        result = train(pairs, config, images=source / "images", output=folder / f"seed-{seed}")
        voices.append(EvaluatedVoice(model.attach(result.path, f"seed-{seed}"), f"seed {seed}"))
    for done, wanted in answer_scenes(model, voices, entry.world, options.scenes, folder / "answers.jsonl"):
        print(f"\r{done} of {wanted} answers", end="", flush=True)
    results = build_results(entry.world, voices, read_answers(folder / "answers.jsonl"), options.scenes)
    print("\n" + render_table(results))
    baseline, *trained = results["voices"]
    means = {
        name: {"baseline": baseline[name]["value"], "mean": fmean(voice[name]["value"] for voice in trained)}
        for name in FIGURES
    }
    print(json.dumps({"pairs": options.pairs, "seeds": SEEDS, "scenes": options.scenes, "figures": means}, indent=1))


if __name__ == "__main__":
    main()
