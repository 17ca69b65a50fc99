"""What each family of models can do here, as a table: tiny random models of real configs, through the real code.

    python -m benchmarks.architectures

Loads: model, tokenizer and processor by the studio's own loader; torchvision must not be installed, else the column
says nothing. Packed: both answers of a pair in one row, as a run chose after comparing scores. Vision cache: the
features of a picture are computed once. Pair generation: baseline and adapter in one `generate` call, token for token
what each says alone. Full run: DDPO with a LoRA, from the first loss to the last, and the adapter changes the answer
of the reloaded model.
"""

import argparse
import contextlib
import datetime
import hashlib
import importlib.util
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from PIL import Image

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.ddpo.base import load_base
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.train import train
from rlhfv.ddpo.vision import ImageInputs
from rlhfv.errors import StudioError
from rlhfv.models.catalog import find_entry
from rlhfv.models.local import Generated, LocalModel, Row, load_model
from rlhfv.run_folder import RunFolder
from tests.ddpo.conftest import make_pair
from tests.models.families import ARCHITECTURES

COLUMNS = ("loads without torchvision", "packed", "vision cache", "pair generation in one call", "full run")
CONFIG = TrainingConfig(batch_size=4, epochs=4, eval_fraction=0.0, learning_rate=1e-3, lora_rank=4, lora_alpha=8)
SAMPLING = Sampling(max_new_tokens=16)
SIZES = [(90, 70), (64, 120), (64, 64), (112, 60)]


def draw_pictures(folder: Path) -> list[str]:
    names = []
    for size in SIZES:
        Image.radial_gradient("L").resize(size).convert("RGB").save(folder / "new.png")
        names.append(f"{hashlib.sha256((folder / 'new.png').read_bytes()).hexdigest()}.png")
        (folder / "new.png").rename(folder / names[-1])
    return names


def answer(model: LocalModel, rows: list[Row], image_path: Callable[[str], Path]) -> tuple[Generated, ...]:
    answers = model.answer_both(rows, SAMPLING, image_path)
    while True:
        try:
            next(answers)
        except StopIteration as end:
            return end.value


def measure(build: Callable[[Path], Path], folder: Path) -> dict[str, str]:
    """The cells of one family; a failure ends its row with what it said."""
    cells = dict.fromkeys(COLUMNS, "")
    (folder / "images").mkdir(parents=True)
    names = draw_pictures(folder / "images")

    def image_path(name: str) -> Path:
        return folder / "images" / name

    try:
        base = build(folder / "base")
        load_model(str(base)).unload()
        cells["loads without torchvision"] = "yes"
        loaded = load_base(find_entry(str(base)), CONFIG)
        images = ImageInputs(loaded.model, loaded.processor, image_path)
        reason = "no: the question is encoded with the picture" if images.reads_question else "no"
        pairs = [make_pair(f"p{number}", name) for number, name in enumerate(names)]
        run = train(pairs, CONFIG, images=folder / "images", output=folder / "run", model=str(base))
        events, _ = RunFolder(folder / "run").read_events()
        slow = any("cannot be kept" in event.get("text", "") for event in events)
        cells["vision cache"] = "yes" if images.cached and not slow else reason
        chosen = next((event for event in events if "packed" in event), None)
        if chosen:
            cells["packed"] = "yes" if chosen["packed"] else f"no: {chosen['text'].partition(': ')[2].rstrip('.')}"
        first = next(event["loss"] for event in events if event["kind"] == "step")
        model = load_model(str(base), [run.path])
        (voice,) = model.adapters()
        rows = [Row(voice=who, prompt=Prompt("what is on the table?", (names[0],))) for who in (None, voice)]
        both = answer(model, rows, image_path)
        alone = [answer(model, [row], image_path)[0] for row in rows]
        same = [row.tokens for row in both] == [row.tokens for row in alone]
        told = f"no: {both[0].apart}" if both[0].apart else "yes"
        cells["pair generation in one call"] = told if same else "rows differ from single answers"
        changed = not model.adapters()[voice].changes_nothing
        cells["full run"] = f"{first:.3f} → {run.figures['loss']:.3f}" + ("" if changed else ", no effect")
        model.unload()
    except StudioError as error:
        cells[next(name for name in COLUMNS if not cells[name])] = f"no: {error.what} {error.why}"
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(ARCHITECTURES)} (default: all)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    began, rows = time.perf_counter(), {}
    for name in arguments.names or ARCHITECTURES:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            nowhere = stack.enter_context(open(os.devnull, "w"))  # what loading and training print
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
            rows[name] = measure(ARCHITECTURES[name], folder)
    here = importlib.util.find_spec("torchvision") is not None
    print(
        f"{datetime.date.today()}: Python {platform.python_version()}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, torchvision {'IS' if here else 'not'} installed, one thread, "
        f"{time.perf_counter() - began:.0f} s\n"
    )
    print(f"| architecture | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells.values())} |")


if __name__ == "__main__":
    main()
