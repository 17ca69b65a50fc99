"""How long the cells of `reproduce_model` take on this machine, told before anything of them has run: trainings as the
check before a training estimates them, answers counted from the model's size, or measured once a set is done.
"""

import io
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.pairs import PreferencePair, Provenance, load_pairs
from rlhfv.ddpo.config import find_recipe
from rlhfv.evaluation.answer_sets import AnswerFolder
from rlhfv.evaluation.reproduce import Cell, Timing
from rlhfv.evaluation.reproduce_model import PAIRS, Experiment
from rlhfv.models.catalog import Entry

SAMPLE = 128
"""Pairs whose lengths stand for all."""
PROMPT_TOKENS = 650
LONG, SHORT = 120, 12
"""Tokens of a description and of an answer to a yes-or-no question."""
SECONDS_A_PAIR = 0.02
"""To fetch a pair and take it in."""
_YES_NO = ("pope-", "amber-discriminative")
_WORDS = "There is a young man on the left who holds a red umbrella, and a dog stands near him on the wet street. " * 3


@dataclass(frozen=True)
class Estimate:
    """`timing` of the cells' units of work, the peak in bytes of a training by its recipe, what people should know of
    both, and warnings of the check."""

    timing: Timing
    memory: dict[str, float]
    told: tuple[str, ...]


def estimate(
    entry: Entry,
    experiment: Experiment,
    cells: Sequence[Cell],
    work: Path,
    batch: int,
    saving: Mapping[str, int | bool] | None = None,
) -> Estimate:
    """Reads config, tokenizer and processor of the base, never its weights. `saving` are settings of all trainings
    that save memory, `batch` rows that answer together.

    Raises:
        StudioError: the base or a recipe cannot work here.
    """
    seconds = {PAIRS: SECONDS_A_PAIR}
    trained, memory, told = _trainings(entry, experiment, cells, work, saving or {})
    seconds |= trained
    counted = _answer_seconds(entry, experiment, batch)
    measured = []
    for name in experiment.questions:
        known = _measured(cells, work, name)
        measured += [name] if known else []
        seconds[f"answers {name}"] = known or counted[name.startswith(_YES_NO)]
    how = f"measured for {', '.join(measured)}, else " if measured else ""
    told.append(f"Answers: {how}counted from the size of the model; right within a factor of two or three.")
    return Estimate(Timing(seconds), memory, tuple(told))


def _trainings(entry: Entry, experiment: Experiment, cells: Sequence[Cell], work: Path, saving: Mapping):
    from rlhfv.ddpo.check import check_run

    data = next(cell for cell in cells if cell.name == PAIRS)
    seconds, memory, warnings = {}, {}, []
    with tempfile.TemporaryDirectory(prefix="rlhfv-estimate-") as place:
        if data.is_done(work):
            every = load_pairs(data.folder(work))
            pairs, images = every[:: max(1, len(every) // SAMPLE)][:SAMPLE], data.folder(work) / "images"
            of = f"from the lengths of {len(pairs)} of them"
        else:
            pairs, images = _made_up(Path(place)), Path(place)
            of = "from made-up pairs of the length that the paper tells, since they are not here yet"
        for recipe in experiment.recipes:
            report = check_run(pairs, find_recipe(recipe).changed(**saving), entry, images.joinpath)
            usable = max(1, report.usable)
            seconds[f"training {recipe}"] = report.seconds * experiment.pairs / usable
            memory[recipe] = report.memory
            warnings += [f"{recipe}: {text}" for text in report.warnings if "steps:" not in text]
    told = [
        f"Trainings: estimated for one device and {experiment.pairs:,} pairs, {of}; right within a factor of about"
        " two.",
        *dict.fromkeys(warnings),
    ]
    return seconds, memory, told


def _made_up(place: Path) -> list[PreferencePair]:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (480, 336), (120, 140, 160)).save(buffer, "PNG")
    name = f"{sha256(buffer.getvalue()).hexdigest()}.png"
    (place / name).write_bytes(buffer.getvalue())
    chosen = _WORDS.replace("red", "blue").replace("dog", "cat")
    prompt, provenance = Prompt("Describe this image in detail.", (name,)), Provenance(edits="inferred")
    row = {"images": [name], "question": prompt.question, "chosen": chosen, "rejected": _WORDS}
    return [
        PreferencePair.from_row({**row, "id": f"made-up-{number}", "provenance": provenance.to_row()})
        for number in range(16)
    ]


def _answer_seconds(entry: Entry, experiment: Experiment, batch: int) -> dict[bool, float]:
    """Seconds an answer, for descriptions (False) and yes or no (True): the prompt's operations at half the speed of a
    plain product, then for each token the slower of operations and reading the weights, which a batch shares."""
    import torch

    from rlhfv.ddpo.cost import USED_SHARE, measure_speed
    from rlhfv.models.catalog import choose_device, estimate_memory, fetch_config, possible_dtypes

    device, config = choose_device(), fetch_config(entry)
    dtype = possible_dtypes(config, device, estimate_memory(config, torch.float32).parameters)[0]
    size = estimate_memory(config, dtype)
    speed = USED_SHARE * measure_speed(device, dtype == torch.bfloat16)
    read = size.weights / _bandwidth(device)
    beams = experiment.decoding.search.beams
    rows = max(1, batch // beams)
    found = {}
    for short, tokens in ((False, LONG), (True, SHORT)):
        each = max(2 * size.parameters * beams / speed, read / rows)
        tokens = min(tokens, experiment.decoding.max_new_tokens)
        found[short] = 2 * size.parameters * PROMPT_TOKENS / speed + tokens * each
    return found


def _bandwidth(device) -> float:
    """Bytes a second that can be read, from a few copies of 64 MB."""
    import torch

    block, best = torch.ones(2**24, device=device), float("inf")
    for _ in range(5):
        began = time.perf_counter()
        float(block.clone()[0])  # waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * block.numel() * block.element_size() / best


def _measured(cells: Sequence[Cell], work: Path, benchmark: str) -> float | None:
    """Seconds an answer of the sets that are done; None where none is."""
    taken = [
        row["seconds"]
        for cell in cells
        if cell.settings.get("benchmark") == benchmark and cell.is_done(work)
        for row in AnswerFolder(cell.folder(work)).rows().values()
        if "seconds" in row
    ]
    return sum(taken) / len(taken) if taken else None
