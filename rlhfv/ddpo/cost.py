"""What a run needs, counted from the model's config: bytes that stay, bytes per token, floating-point operations."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig

from rlhfv.ddpo.batches import EncodedPair, image_groups
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.packing import PackedCollator, packed_length
from rlhfv.ddpo.trees import fill_batches, gather
from rlhfv.ddpo.watch import LONGEST_PROBE, PROBES
from rlhfv.models.catalog import available_memory, outline_model
from rlhfv.models.quantised import NF4_BYTES

ADAM_BYTES = 16
"""Per trained parameter in float32: weight, gradient and AdamW's two averages."""
LOGIT_BYTES = 3 * 2**26
"""Room for the vocabulary head, which works in pieces (see scoring.py)."""
LIBRARY_BYTES = 450_000_000
"""What a process takes once the libraries are loaded; without a GPU it is part of the peak that is measured."""
HEAP_PIECES, HEAP_PIECE = 60, 2**25
"""Without a GPU freed tensors of up to 32 MB stay in the process's heap: measured as 60 of a layer's widest, with and
without checkpointing. A GPU's memory is handed out by torch, which does not need more than lives at once."""
LAYER_SECONDS = 0.003
"""What a layer with an adapter takes for the next token of an answer, however small it is."""
CHECKED = 12
"""Answers that the check before the first step scores (see crosscheck.py)."""
USED_SHARE = 0.5
"""Share of a plain matrix product's speed that training reaches: 0.57 in the steps of a small model on a CPU."""
START_SECONDS = 2.0
"""Loading the base. A run's time counts from there, without the seconds that Python takes to load its libraries."""


@dataclass(frozen=True)
class Cost:
    """`fixed` and `per_token` are bytes, the latter per token of one forward pass; `step_flops` and `reference_flops`
    are floating-point operations per token of a training step and of the reference pass; `image_flops` per image
    token; `widest` are bytes per token of the widest tensor in a layer, 0 on a GPU.
    """

    parameters: int
    trained: int
    fixed: int
    per_token: int
    step_flops: int
    reference_flops: int
    image_flops: int
    layers: int = 0
    widest: int = 0

    def memory(self, tokens: int) -> int:
        """Bytes at the peak of a step over so many tokens at once."""
        heap = HEAP_PIECES * min(HEAP_PIECE, tokens * self.widest)
        return self.fixed + tokens * self.per_token + heap


@dataclass(frozen=True)
class Estimate:
    """Bytes at the peak, of the GPU or, on a machine without one, of the process; seconds of the whole run."""

    memory: int
    seconds: float


def count_cost(model_config: PreTrainedConfig, config: TrainingConfig, bfloat16: bool, on_gpu: bool = False) -> Cost:
    """Counted on a model without storage. Activations follow the shapes of a Llama layer: 10 hidden-sized and 4
    intermediate-sized tensors kept per token and layer, and 4 and 1 more in the layer whose gradients are computed. A
    layer that is computed again keeps one hidden-sized tensor until its turn comes.
    """
    model = outline_model(model_config)
    decoder = model.get_decoder()
    parameters = sum(value.numel() for value in model.parameters())
    inputs = model.get_input_embeddings().weight.numel()
    language = sum(value.numel() for value in decoder.parameters()) - inputs
    head = model.get_output_embeddings()
    outside = parameters - language - inputs
    if head is not None and head.weight is not model.get_input_embeddings().weight:
        outside -= head.weight.numel()
    text = model_config.get_text_config()
    layers, hidden = text.num_hidden_layers, text.hidden_size
    linear = [module for module in decoder.modules() if isinstance(module, torch.nn.Linear)]
    inner = max((module.out_features for module in linear), default=4 * hidden)
    low_rank = sum(config.lora_rank * (module.in_features + module.out_features) for module in linear)
    trained = parameters if config.full_tuning else low_rank
    width = 2 if bfloat16 else 4
    weights = 0 if config.full_tuning else parameters * width
    if config.base_weights == "4-bit":
        sizes = [module.weight.numel() for module in linear]
        weights -= int(sum(sizes) * (width - NF4_BYTES)) - max(sizes) * width  # one at a time is unfolded
    every = config.gradient_checkpointing
    again = math.ceil(layers / every) if every else 0
    whole = layers - again
    if again and (layers - 1) % every == 0:  # the last layer is computed again while all others are still there
        whole += 1
    kept = whole * (10 * hidden + 4 * inner) + again * hidden + 4 * hidden + inner
    passes = 4 + (2 if config.full_tuning else 0) + 2 * again / layers
    return Cost(
        parameters,
        trained,
        fixed=trained * ADAM_BYTES + weights + LOGIT_BYTES + (0 if on_gpu else LIBRARY_BYTES),
        per_token=kept * width,
        step_flops=int(passes * language) + (0 if config.full_tuning else 6 * low_rank),
        reference_flops=2 * language,
        image_flops=2 * outside,
        layers=layers,
        widest=0 if on_gpu else inner * width,
    )


def largest_pair(pairs: Sequence[EncodedPair], packed: bool) -> int:
    """Tokens of all rows of the pair that has most of them."""
    return max(packed_length(pair) if packed else 2 * pair.length for pair in pairs)


def estimate_run(
    pairs: Sequence[EncodedPair],
    cost: Cost,
    config: TrainingConfig,
    rows: PackedCollator | None,
    at_once: int,
    looks: int,
    speed: float,
    world: int = 1,
) -> Estimate:
    """What training on all these pairs takes.

    Args:
        rows: how pairs are packed; None for two rows a pair.
        looks: how often the probes are asked.
        speed: floating-point operations a second of one of `world` devices (see `measure_speed`).
    """
    if rows is None:
        tokens = sum(2 * pair.length for pair in pairs)
    else:
        batches = fill_batches(gather(image_groups(pairs)), at_once)
        tokens = sum(rows.count_tokens([pairs[place] for place in batch]) for batch in batches)
    seen = config.epochs if not config.steps else config.steps * config.batch_size / len(pairs)
    images = sum(len(pair.prompt) for pair in {pair.images: pair for pair in pairs}.values())
    longest = max(pair.length for pair in pairs)
    answer = min(LONGEST_PROBE, 1.25 * max(len(pair.chosen) for pair in pairs))
    asked = looks * min(PROBES, len(pairs)) * longest + CHECKED * longest  # by each device
    seconds = estimate_seconds(cost, tokens, images, seen + config.sft_epochs, speed * world)
    seconds += asked * cost.reference_flops / (USED_SHARE * speed) + looks * answer * cost.layers * LAYER_SECONDS
    return Estimate(cost.memory(at_once * largest_pair(pairs, packed=rows is not None)), seconds)


def free_memory(device: torch.device) -> int:
    """Bytes free on the device, what this process itself has taken counted as free."""
    if device.type == "cuda":
        return available_memory(device) + torch.cuda.memory_reserved(device)
    import psutil

    used = psutil.Process().memory_info()
    return available_memory(device) + used.rss - getattr(used, "shared", 0)


def pairs_at_once(share: int, tokens: int, cost: Cost, available: int) -> int:
    """How many of a device's `share` of a batch go through the model together: the largest divisor that fits in three
    quarters of the free memory, so that accumulation makes up the rest exactly.

    Args:
        tokens: of all rows of the largest pair.
    """
    fitting = [size for size in range(1, share + 1) if share % size == 0]
    fitting = [size for size in fitting if cost.memory(size * tokens) <= 0.75 * available] or [1]
    return fitting[-1]


def total_steps(pairs: int, config: TrainingConfig) -> int:
    """Optimizer steps of a run, counted as Trainer counts them."""
    return config.steps or count_steps(pairs, config.batch_size, config.epochs)


def count_steps(pairs: int, batch_size: int, epochs: float) -> int:
    return max(1, math.ceil(epochs * math.ceil(pairs / batch_size)))


def measure_speed(device: torch.device, bfloat16: bool) -> float:
    """Floating-point operations a second of a plain matrix product, from about a tenth of a second of them."""
    size = 4096 if device.type == "cuda" else 768
    matrix = torch.ones(size, size, device=device, dtype=torch.bfloat16 if bfloat16 else torch.float32)
    matrix @ matrix
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < 0.1:
        start = time.perf_counter()
        product = matrix @ matrix
        float(product[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def estimate_seconds(cost: Cost, sequence_tokens: int, image_tokens: int, passes: float, speed: float) -> float:
    """Seconds for `passes` epochs over sequences of so many tokens in all, with one reference and one vision pass."""
    step = cost.step_flops * passes + cost.reference_flops
    return START_SECONDS + (sequence_tokens * step + image_tokens * cost.image_flops) / (USED_SHARE * speed)
