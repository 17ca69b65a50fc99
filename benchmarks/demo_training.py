"""Times a run on the demo model, packed and with two rows a pair: `python -m benchmarks.demo_training`.

Whole runs in one process and one thread, one after the other in turn: CPU seconds of each, the ratio of the shortest,
and the figures that both ways end with.
"""

import argparse
import contextlib
import io
import shutil
import time
from pathlib import Path

import torch

from rlhfv.ddpo.config import RECIPES
from rlhfv.ddpo.train import train
from rlhfv.evaluation.oracle_pairs import oracle_pairs
from rlhfv.models.catalog import find_entry
from rlhfv.models.local import LocalModel
from rlhfv.run_folder import RunFolder

WAYS = {"packed": "auto", "two rows a pair": "off"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=128, help="oracle pairs")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("build/demo_training"), help="folder for pairs and runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    entry = find_entry("demo")
    model = LocalModel.load(entry)
    pairs = oracle_pairs(model, entry.world, options.pairs, options.work / "pairs")
    model.unload()
    config = RECIPES["demo"].changed(epochs=options.epochs)
    images = options.work / "pairs" / "images"
    seconds, figures = {way: [] for way in WAYS}, {}
    for number in range(options.rounds):
        for way, packed in WAYS.items():
            folder = options.work / way.replace(" ", "-")
            shutil.rmtree(folder, ignore_errors=True)
            began = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):  # Trainer prints every step
                result = train(pairs, config.changed(packed=packed), images=images, output=folder)
            seconds[way].append(time.process_time() - began)
            figures[way] = {name: value for name, value in result.figures.items() if name != "seconds"}
            print(f"round {number + 1}, {way}: {seconds[way][-1]:.1f} CPU s", flush=True)
    events, _ = RunFolder(options.work / "packed").read_events()
    print(*(event["text"] for event in events if event["kind"] == "log" and "packed" in event))
    one, two = (min(seconds[way]) for way in WAYS)
    print(f"whole run: {one:.1f} against {two:.1f} CPU s, {two / one:.2f}x")
    for name in figures["packed"]:
        print(f"{name}: {figures['packed'][name]:.6g} and {figures['two rows a pair'][name]:.6g}")


if __name__ == "__main__":
    main()
