"""What a run would do, before any compute: usable rows, skipped rows and why, memory, time. Torch is imported on
use."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.corrections.pairs import PreferencePair
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.errors import StudioError

if TYPE_CHECKING:
    from rlhfv.models.catalog import Entry


@dataclass(frozen=True)
class CheckReport:
    """`usable` counts pairs; `skipped` is (pair id, reason); `memory` and `available` are bytes at the peak and free
    now; `seconds` is the run's estimated length on this machine, right within a factor of about two; `steps` are
    optimizer steps, `longest` tokens of the longest sequence, `trained` trained parameters."""

    usable: int
    skipped: tuple[tuple[str, str], ...]
    steps: int = 0
    longest: int = 0
    trained: int = 0
    memory: int = 0
    available: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        return asdict(self)


def check_run(
    pairs: Sequence[PreferencePair],
    config: TrainingConfig,
    entry: "Entry",
    image_path: Callable[[str], Path],
) -> CheckReport:
    """Reads tokenizer, processor and config of the base, never its weights; of the images only their sizes, and the
    pixels of one image per size.

    Raises:
        StudioError: the base or the settings cannot work.
    """
    from rlhfv.ddpo.base import computes_in_bfloat16, end_tokens
    from rlhfv.ddpo.batches import PairEncoder, Unusable
    from rlhfv.ddpo.cost import count_cost, estimate_seconds, measure_speed, pairs_at_once, total_steps
    from rlhfv.ddpo.packing import packed_length, why_not_packed
    from rlhfv.models.catalog import available_memory, choose_device, fetch_config, outline_model
    from rlhfv.models.processors import load_processor

    model_config, folder = fetch_config(entry), _small_files(entry)
    processor = load_processor(folder)
    encoder = PairEncoder(processor, image_path, config, end_tokens(processor.tokenizer, None), measure_only=True)
    usable, skipped = [], []
    for pair in pairs:
        try:
            usable.append(encoder.encode(pair))
        except Unusable as reason:
            skipped.append((pair.id, str(reason)))
        except StudioError as error:
            skipped.append((pair.id, f"{error.what} {error.why}"))
    if not usable:
        return CheckReport(0, tuple(skipped))
    bfloat16, device = computes_in_bfloat16(entry, config), choose_device()
    cost = count_cost(model_config, config, bfloat16)
    available, longest = available_memory(device), max(pair.length for pair in usable)
    at_once = pairs_at_once(config.batch_size, longest, cost, available)
    steps = total_steps(max(1, round(len(usable) * (1 - config.eval_fraction))), config, at_once, 1)
    if config.packed == "auto" and not why_not_packed(outline_model(model_config)):
        sizes = [packed_length(pair) for pair in usable]
    else:
        sizes = [2 * pair.length for pair in usable]
    seen = config.epochs if not config.steps else config.steps * config.batch_size / len(usable)
    image_tokens = sum(len(pair.prompt) for pair in {pair.images: pair for pair in usable}.values())
    seconds = estimate_seconds(cost, sum(sizes), image_tokens, seen, measure_speed(device, bfloat16))
    memory = cost.memory(at_once * max(sizes))
    return CheckReport(
        len(usable),
        tuple(skipped),
        steps=steps,
        longest=longest,
        trained=cost.trained,
        memory=memory,
        available=available,
        seconds=seconds,
        warnings=tuple(_warnings(config, len(usable), steps, memory, available)),
    )


def _warnings(config: TrainingConfig, usable: int, steps: int, memory: int, available: int):
    if memory > available:
        yield (
            f"Even one pair at a time needs about {memory / 1e9:.1f} GB; {available / 1e9:.1f} GB are free."
            + ("" if config.gradient_checkpointing else " Switch on gradient checkpointing.")
        )
    if steps < 10:
        yield f"{usable} pairs make {steps} steps: enough to see the loop close, too few to change habits."
    if config.full_tuning and config.learning_rate > 1e-5:
        yield f"Full tuning at {config.learning_rate:g} ruins a model; the sources use 5e-7."


def _small_files(entry: "Entry") -> Path:
    from rlhfv.models.catalog import MODEL_FILES, download

    if entry.is_local:
        return Path(entry.source)
    return download(entry.source, entry.revision, [name for name in MODEL_FILES if "safetensors" not in name])
