"""What a run would do, before any compute: usable rows, skipped rows and why, memory, time. Torch is imported on
use."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.corrections.pairs import UNKNOWN_MODEL, PreferencePair
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
    here: bool = True,
) -> CheckReport:
    """Reads tokenizer, processor and config of the base, never its weights; of the images only their sizes, and the
    pixels of one image per size.

    Args:
        here: the run is to train on this machine, which then has to have what it asks for.

    Raises:
        StudioError: the base or the settings cannot work.
    """
    from rlhfv.ddpo.attempt import LOOKS
    from rlhfv.ddpo.base import computes_in_bfloat16, end_tokens
    from rlhfv.ddpo.batches import PairEncoder, Unusable
    from rlhfv.ddpo.cost import (
        count_cost,
        estimate_run,
        largest_pair,
        measure_speed,
        pairs_at_once,
        total_steps,
    )
    from rlhfv.ddpo.packing import PackedCollator, why_not_packed
    from rlhfv.models.catalog import (
        available_memory,
        choose_device,
        fetch_config,
        fetch_small_files,
        outline_model,
    )
    from rlhfv.models.processors import load_processor
    from rlhfv.models.quantised import refuse_four_bit_without_its_library

    device = choose_device()
    if here and config.base_weights == "4-bit":
        refuse_four_bit_without_its_library(device)
    model_config = fetch_config(entry)
    processor = load_processor(fetch_small_files(entry), entry.square)
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
    bfloat16, outline = computes_in_bfloat16(entry, config), outline_model(model_config)
    rows = None
    if config.packed == "auto" and not why_not_packed(outline):
        rows = PackedCollator(0, lambda rows: {}, outline)
    cost = count_cost(model_config, config, bfloat16, device.type == "cuda")
    available = available_memory(device)
    at_once = pairs_at_once(config.batch_size, largest_pair(usable, rows is not None), cost, available)
    steps = total_steps(max(1, round(len(usable) * (1 - config.eval_fraction))), config)
    looks, speed = min(LOOKS, steps) + 1, measure_speed(device, bfloat16)
    estimate = estimate_run(usable, cost, config, rows, at_once, looks, speed)
    return CheckReport(
        len(usable),
        tuple(skipped),
        steps=steps,
        longest=max(pair.length for pair in usable),
        trained=cost.trained,
        memory=estimate.memory,
        available=available,
        seconds=estimate.seconds,
        warnings=(
            *_warnings(config, len(usable), steps, estimate.memory, available),
            *_of_others(pairs, entry, config),
        ),
    )


def _warnings(config: TrainingConfig, usable: int, steps: int, memory: int, available: int):
    if memory > available:
        yield (
            f"Even one pair at a time needs about {memory / 1e9:.1f} GB; {available / 1e9:.1f} GB are free."
            + ("" if config.gradient_checkpointing == 1 else " Set gradient checkpointing to 1.")
        )
    if steps < 10:
        yield f"{usable} pairs make {steps} steps: enough to see the loop close, too few to change habits."
    if config.full_tuning and config.learning_rate > 1e-5:
        yield f"Full tuning at {config.learning_rate:g} ruins a model; the sources use 5e-7."


def _of_others(pairs: Sequence[PreferencePair], entry: "Entry", config: TrainingConfig):
    """Pairs whose rejected answer the base never gave; where a pair does not say whose it is, nothing is said."""
    own = {entry.id, entry.source, UNKNOWN_MODEL.name}
    others = Counter(pair.provenance.model.base for pair in pairs if pair.provenance.model.name not in own)
    if others:
        names = ", ".join(name for name, _ in others.most_common(3)) + (" and others" if len(others) > 3 else "")
        yield (
            f"{others.total()} of {len(pairs)} pairs correct what another model said ({names}): off-policy. The run "
            "unlearns sentences that this base would hardly say; corrections of its own answers teach it more."
            + ("" if config.sft_epochs else " Setting sft_epochs lets it learn the corrected answers first.")
        )
