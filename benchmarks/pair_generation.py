"""What two answers at once cost: against one answer, and against two runs one after the other.

    python -m benchmarks.pair_generation [demo] [llava] [--rounds 5] [--tokens 100]

`demo` is the model that ships, in float32, with its aligned adapter; `llava` a random LLaVA of about 230 million
parameters in bfloat16 with a LoRA of random weights, 576 image tokens. Each run encodes its image anew (a pair once
for both rows). Seconds are CPU time of one thread, the three ways taken in turn; ratios are of the fastest rounds
and of the medians, and all rounds are printed.
"""

import argparse
import datetime
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from PIL import Image

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.models.catalog import find_entry
from rlhfv.models.local import Generated, LocalModel, Row, answer_both
from tests.models.tiny import add_random_adapter, build_llava


def load_demo(folder: Path) -> tuple[LocalModel, str, Path]:
    entry = find_entry("demo")
    model = LocalModel.load(entry)
    picture = folder / "scene.png"
    picture.write_bytes(entry.world.draw("test", 0)[0])
    return model, model.attach(entry.adapters[0].source), picture


def load_random_llava(folder: Path) -> tuple[LocalModel, str, Path]:
    base = build_llava(
        folder / "llava",
        dtype=torch.bfloat16,
        image_size=336,
        vision={"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 6},
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=12,
        num_attention_heads=16,
        num_key_value_heads=16,
        vocab_size=32_000,
        initializer_range=0.02,
    )
    adapter = add_random_adapter(base, folder / "adapter", scale=0.02)
    picture = folder / "picture.png"
    Image.radial_gradient("L").resize((336, 336)).convert("RGB").save(picture)
    model = LocalModel.load(str(base), dtype=torch.bfloat16)
    return model, model.attach(adapter), picture


MODELS: dict[str, Callable[[Path], tuple[LocalModel, str, Path]]] = {"demo": load_demo, "llava": load_random_llava}


def run(model: LocalModel, rows: list[Row], sampling: Sampling) -> tuple[Generated, ...]:
    model._engine.images.forget()
    answers = answer_both(model, rows, sampling)
    while True:
        try:
            next(answers)
        except StopIteration as end:
            return end.value


def measure(work: Callable[[], object]) -> tuple[float, float]:
    """(CPU seconds, seconds on the clock)"""
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - clock


def compare(name: str, rounds: int, tokens: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model, adapter, picture = MODELS[name](Path(folder))
        question = model.entry.world.questions[0] if model.entry.world else "What is in this image?"
        prompt = Prompt(question, (str(picture),))
        base, aligned = Row(None, prompt), Row(adapter, prompt)
        sampling = Sampling(max_new_tokens=tokens)
        parameters = sum(parameter.numel() for parameter in model.model.parameters())
        both = run(model, [base, aligned], sampling)
        alone = [run(model, [row], sampling)[0] for row in (base, aligned)]
        ways = {
            "one answer": lambda: run(model, [base], sampling),
            "two in sequence": lambda: [run(model, [row], sampling) for row in (base, aligned)],
            "answer_both": lambda: run(model, [base, aligned], sampling),
        }
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, work in ways.items():
                taken[way].append(measure(work))
        lengths = ", ".join(str(len(answer.tokens)) for answer in both)
        print(
            f"\n{name}: {parameters / 1e6:.1f} M parameters, {str(model.dtype).removeprefix('torch.')}, {model.device}"
        )
        print(f"  tokens of the two answers: {lengths}; rows equal to separate runs: ", end="")
        print(", ".join(str(row.tokens == single.tokens) for row, single in zip(both, alone, strict=True)))
        for way, figures in taken.items():
            cpu, clock = ("  ".join(f"{figure[kind]:.3f}" for figure in figures) for kind in (0, 1))
            print(f"  {way:16} CPU s {cpu}   clock s {clock}")
        for label, pick in (("fastest", min), ("median", statistics.median)):
            spent = {way: pick(cpu for cpu, _ in figures) for way, figures in taken.items()}
            to_one = spent["answer_both"] / spent["one answer"]
            to_two = spent["answer_both"] / spent["two in sequence"]
            print(f"  {label} CPU time: answer_both is {to_one:.2f}x of one answer, {to_two:.2f}x of two in sequence")
        model.unload()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(MODELS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load = psutil.getloadavg()[0]
    print(
        f"{datetime.date.today()}: {platform.machine()}, {psutil.cpu_count()} cores (one used, load {load:.1f}), "
        f"{platform.system()}, Python {sys.version.split()[0]}, torch {torch.__version__}"
    )
    for name in arguments.models or MODELS:
        compare(name, arguments.rounds, arguments.tokens)


if __name__ == "__main__":
    main()
