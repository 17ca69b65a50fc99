"""What a model does on this machine: training, answering and the machine itself tried one after the other, each told
by itself, so that one failure hides none of the rest.
"""

import importlib.metadata
import importlib.util
import io
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.corrections.edits import CorrectedAnswer, Edit
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import PreferencePair, Provenance
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.errors import RunFailed, StudioError
from rlhfv.models.catalog import Entry
from rlhfv.run_folder import RunFolder, now
from rlhfv.runs.local import build_command
from rlhfv.units import human_bytes

STEPS = 8
PAIRS_A_DEVICE = 2
NEW_TOKENS = 64
QUESTION = "Describe this image in detail."
ANSWER = (
    "The picture shows several plain shapes on a light ground. In the upper left there is a large circle with a thin "
    "outline, and next to it lies a small square. Below them stands a tall triangle that touches the lower edge. On "
    "the right a narrow bar runs from the top to the middle, and two dots are placed under it. The colours are plain "
    "and none of the shapes has a shadow. A thin line crosses the whole picture near the bottom."
)
CORRECTIONS = (("small square", "wide oval"), ("two dots", "one ring"), ("near the bottom", "near the top"))
"""What a pair's chosen answer says instead; the first stands at a third of the answer."""


@dataclass(frozen=True)
class Finding:
    """One line: what was tried, how it went (`ok`, `failed` or `left out`), in words and in figures. `error` holds the
    three parts of a failure."""

    name: str
    state: str
    text: str = ""
    figures: dict = field(default_factory=dict)
    error: dict | None = None

    def to_dict(self) -> dict:
        return {name: value for name, value in vars(self).items() if value not in (None, {}, "")}


def examine(entry: Entry, pictures: Sequence[Path] = ()) -> Iterator[Finding]:
    """Finds out, one line after the other, with pictures of one's own or drawn ones.

    Trains as a run of the studio does, on all GPUs there are: with packed rows where the model takes them, then with
    two rows a pair, then with TRL where that is installed.

    Raises:
        InvalidImage: a given picture cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="rlhfv-doctor-") as place:
        folder = Path(place)
        (folder / "images").mkdir()
        shelf = ImageShelf(folder / "images")
        names = [shelf.intake(data).name for data in (_read_pictures(pictures) or draw_pictures())]
        yield _try("machine", _describe_machine)
        runs = {"training": TrainingConfig(), "training, two rows a pair": TrainingConfig(packed="off")}
        trained = {}
        for name, config in runs.items():
            if trained and not trained["training"].figures.get("packed"):
                yield Finding(name, "left out", "the run above did not pack, or failed")
                continue
            run = folder / f"run-{len(trained)}"
            trained[name] = _try(name, lambda run=run, config=config: _train(entry, config, run, shelf, names))
            yield trained[name]
        if importlib.util.find_spec("trl") is None:
            yield Finding("TRL", "left out", "it is not installed")
        elif trained["training"].state != "ok":
            yield Finding("TRL", "left out", "the run above failed")
        else:
            yield _try("TRL", lambda: _train_with_trl(entry, folder / "run-0", trained["training"].figures))
        adapter = folder / "run-0" / "adapter"
        yield from _answer(entry, adapter if adapter.is_dir() else None, shelf, names[0])


def draw_pictures() -> list[bytes]:
    """Four pictures of plain shapes in different sizes, as PNG."""
    from PIL import Image, ImageDraw

    drawn = []
    for number, size in enumerate([(448, 336), (336, 336), (336, 448), (400, 300)]):
        picture = Image.new("RGB", size, (238, 234, 226))
        pen = ImageDraw.Draw(picture)
        pen.ellipse((20, 20, 150, 150), fill=["firebrick", "teal", "goldenrod", "purple"][number], outline="black")
        pen.rectangle((180, 60, 240, 120), fill="steelblue")
        pen.polygon([(60, size[1]), (120, 180), (180, size[1])], fill="darkgreen")
        pen.line((0, size[1] - 40, size[0], size[1] - 40), fill="black", width=3)
        file = io.BytesIO()
        picture.save(file, "PNG")
        drawn.append(file.getvalue())
    return drawn


def make_pairs(names: Sequence[str], count: int) -> list[PreferencePair]:
    """Pairs of an answer of about ninety words with three corrections, on the named pictures in turn."""
    edits = []
    for old, new in CORRECTIONS:
        start = ANSWER.index(old)
        edits.append(Edit(start, start + len(old), new, "object"))
    answer = CorrectedAnswer(ANSWER, tuple(edits))
    return [
        PreferencePair(
            id=f"pair-{number}",
            prompt=Prompt(QUESTION, (names[number % len(names)],)),
            chosen=answer.corrected,
            rejected=ANSWER,
            edits=answer.edits,
            outcome="corrected",
            provenance=Provenance(),
        )
        for number in range(count)
    ]


def _read_pictures(paths: Sequence[Path]) -> list[bytes]:
    return [Path(path).read_bytes() for path in paths]


def _try(name: str, act: Callable[[], tuple[str, dict]]) -> Finding:
    try:
        return Finding(name, "ok", *act())
    except StudioError as error:
        parts = {"what": error.what, "why": error.why, "fix": error.fix}
    except Exception as error:  # whatever it is, the rest is still to be tried
        parts = {
            "what": f"It ended with {type(error).__name__}.",
            "why": " ".join(str(error).split())[:500] or "It says nothing more.",
            "fix": "Report it with this line and the name of the model.",
        }
    return Finding(name, "failed", error=parts)


def _describe_machine() -> tuple[str, dict]:
    import torch

    from rlhfv.models.catalog import available_memory, choose_device

    device = choose_device()
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    devices = [f"{gpu.name}, {human_bytes(gpu.total_memory)}" for gpu in gpus]
    free = available_memory(device)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft", "accelerate")}
    figures = {
        "device": device.type,
        "devices": devices,
        "free_memory": free,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **versions,
    }
    here = ", ".join(devices) or f"no GPU, {os.cpu_count()} cores"
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{here}; {human_bytes(free)} free; {said}", figures


# ---- training


def _train(
    entry: Entry, config: TrainingConfig, path: Path, shelf: ImageShelf, names: Sequence[str]
) -> tuple[str, dict]:
    import torch

    from rlhfv.ddpo.base import base_identity

    batch = PAIRS_A_DEVICE * max(1, torch.cuda.device_count())
    config = config.changed(batch_size=batch, steps=STEPS, eval_fraction=0.0)
    folder, base = RunFolder(path), base_identity(entry)
    source = base.base if entry.is_local else entry.source
    settings = {"name": base.name, "revision": base.revision, "source": source}
    folder.create(
        {"kind": "training", "title": "doctor", "created": now(), "base": settings, "training": config.to_dict()},
        [pair.to_row() for pair in make_pairs(names, 2 * batch)],
        shelf.path,
    )
    began = time.monotonic()
    with open(folder.log_file, "wb") as log:
        code = subprocess.run(
            build_command("training", path),
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(entry),
            check=False,
        ).returncode
    events, _ = folder.read_events()
    _raise_failure(events, code, folder.read_log(3))
    return _describe_run(events, batch, time.monotonic() - began)


def _environment(entry: Entry) -> dict[str, str]:
    """Where a base lies is told by the environment: a run's folder holds no path of a machine."""
    return os.environ | ({"RLHFV_BASE_PATH": str(Path(entry.source).resolve())} if entry.is_local else {})


def _raise_failure(events: list[dict], code: int, log: list[str]) -> None:
    for event in events:
        if event["kind"] == "error":
            raise RunFailed(event["what"], event["why"], event["fix"])
    if code:
        raise RunFailed(
            f"The run ended with code {code} and without a word.",
            f"Its log ends: {' / '.join(log) or 'it is empty'}",
            "Code -9 is a machine that ran out of memory; otherwise report the log's end.",
        )


def _describe_run(events: list[dict], batch: int, seconds: float) -> tuple[str, dict]:
    steps = [event for event in events if event["kind"] == "step" and "loss" in event]
    way = next((event for event in events if "packed" in event), {"packed": False, "text": "Two rows a pair."})
    slow = [event["text"] for event in events if "more slowly" in event.get("text", "")]
    first, last = steps[0], steps[-1]
    # The first step warms up caches and kernels; it counts only where there is no other.
    later = last["step"] - first["step"]
    spent = last["step_seconds"] * last["step"] - first["step_seconds"] * first["step"]
    step_seconds = spent / later if later else last["step_seconds"]
    figures = {
        "first_loss": first["loss"],
        "seconds_a_pair": step_seconds / batch,
        "peak_memory": last["memory"],
        "packed": way["packed"],
        "way": way["text"],
        "processes": last["processes"],
        "seconds": round(seconds, 1),
    }
    skipped = [event["reason"] for event in events if event["kind"] == "skip"]
    text = (
        f"first loss {first['loss']:.6f} (ln 2 is {math.log(2):.6f}); "
        f"{figures['seconds_a_pair']:.3f} s a pair, peak {human_bytes(last['memory'])}, "
        f"{figures['processes']} process{'es' if figures['processes'] > 1 else ''}. {' '.join([way['text'], *slow])}"
    )
    if skipped:
        figures["left_out"] = skipped
        text += f" {len(skipped)} pairs were left out: {skipped[0]}"
    return text, figures


def _train_with_trl(entry: Entry, run: Path, ours: dict) -> tuple[str, dict]:
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]  # on several, Trainer would share out each batch
    done = subprocess.run(
        [sys.executable, "-m", "rlhfv.ddpo.beside_trl", str(run)],
        capture_output=True,
        text=True,
        env=_environment(entry) | {"CUDA_VISIBLE_DEVICES": first},
        check=False,
    )
    if done.returncode:
        raise RunFailed(
            "TRL's DPOTrainer did not train this model.",
            f"It says: {(done.stderr.strip().splitlines() or ['nothing'])[-1][:500]}",
            "Nothing is needed for the studio; this line is for comparison only.",
        )
    figures = json.loads(done.stdout.splitlines()[-1])
    text = f"{figures['seconds_a_pair']:.3f} s a pair, peak {human_bytes(figures['peak_memory'])}"
    if ours["processes"] == 1:
        figures["times_ours"] = figures["seconds_a_pair"] / ours["seconds_a_pair"]
        text += f"; {figures['times_ours']:.2f} times the time of ours after its reference pass"
    if not figures["on_gpu"]:
        text += ". On a CPU it computes logits at every position, on a GPU at the answers' only"
    return text, figures


# ---- answering


def _answer(entry: Entry, adapter: Path | None, shelf: ImageShelf, picture: str) -> Iterator[Finding]:
    from rlhfv.models.local import LocalModel, Row

    loaded = []

    def load() -> tuple[str, dict]:
        began = time.monotonic()
        model = LocalModel.load(entry)
        loaded.append(model)
        seconds, count = time.monotonic() - began, sum(value.numel() for value in model.model.parameters())
        dtype = str(model.dtype).removeprefix("torch.")
        figures = {"seconds": round(seconds, 2), "parameters": count, "dtype": dtype, "device": str(model.device)}
        several = "several pictures" if model.takes_several_images else "one picture"
        return f"{count / 1e6:,.1f} M parameters in {dtype} on {model.device}, {seconds:.1f} s; {several}", figures

    def answer() -> tuple[str, dict]:
        model = loaded[0]
        voices = [None, model.attach(adapter) if adapter else None]
        rows = [Row(voice, Prompt(QUESTION, (picture,))) for voice in voices]
        began = time.monotonic()
        stream = model.answer_both(rows, Sampling(max_new_tokens=NEW_TOKENS), shelf.path)
        try:
            while True:
                next(stream)
        except StopIteration as end:
            answers = end.value
        seconds = time.monotonic() - began
        figures = {
            "seconds": round(seconds, 2),
            "tokens": [len(one.tokens) for one in answers],
            "one_call": not answers[0].apart,
            "why_apart": answers[0].apart,
            "voices": "baseline and the adapter just trained" if adapter else "the baseline twice",
        }
        way = f"two runs: {answers[0].apart}" if answers[0].apart else "one call"
        tokens = " and ".join(str(len(one.tokens)) for one in answers)
        return f"{tokens} tokens in {seconds:.1f} s, {way}; {figures['voices']}", figures

    yield _try("load", load)
    yield _try("two answers", answer) if loaded else Finding("two answers", "left out", "the model was not loaded")
    if loaded:
        loaded[0].unload()
