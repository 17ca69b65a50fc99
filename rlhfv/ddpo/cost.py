"""What a run needs, counted from the model's config: bytes that stay, bytes per token, floating-point operations."""

import math
import time
from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig

from rlhfv.ddpo.config import TrainingConfig
from rlhfv.models.catalog import outline_model

ADAM_BYTES = 16
"""Per trained parameter in float32: weight, gradient and AdamW's two averages."""
LOGIT_BYTES = 3 * 2**26
"""Room for the vocabulary head, which works in pieces (see scoring.py)."""
USED_SHARE = 0.5
"""Share of a plain matrix product's speed that training reaches: 0.57 in the steps of a small model on a CPU."""
START_SECONDS = 5.0
"""Loading libraries and the base."""


@dataclass(frozen=True)
class Cost:
    """`fixed` and `per_token` are bytes, the latter per token of one forward pass; `step_flops` and `reference_flops`
    are floating-point operations per token of a training step and of the reference pass; `image_flops` per image
    token.
    """

    parameters: int
    trained: int
    fixed: int
    per_token: int
    step_flops: int
    reference_flops: int
    image_flops: int

    def memory(self, tokens: int) -> int:
        """Bytes at the peak of a step over so many tokens at once."""
        return self.fixed + tokens * self.per_token


def count_cost(model_config: PreTrainedConfig, config: TrainingConfig, bfloat16: bool) -> Cost:
    """Counted on a model without storage. Activations follow the shapes of a Llama layer: 14 hidden-sized and 5
    intermediate-sized tensors kept per token and layer, with checkpointing one hidden-sized and one layer whole.
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
    layer = (14 * hidden + 5 * inner) * width
    per_token = layers * hidden * width + layer if config.gradient_checkpointing else layers * layer
    passes = 4 + (2 if config.full_tuning else 0) + (2 if config.gradient_checkpointing else 0)
    return Cost(
        parameters,
        trained,
        fixed=trained * ADAM_BYTES + (0 if config.full_tuning else parameters * width) + LOGIT_BYTES,
        per_token=per_token,
        step_flops=passes * language + (0 if config.full_tuning else 6 * low_rank),
        reference_flops=2 * language,
        image_flops=2 * outside,
    )


def pairs_at_once(share: int, longest: int, cost: Cost, available: int) -> int:
    """How many of a device's `share` of a batch go through the model together: the largest divisor that fits in three
    quarters of the free memory, so that accumulation makes up the rest exactly."""
    room = int(0.75 * available) - cost.fixed
    fitting = [size for size in range(1, share + 1) if share % size == 0]
    fitting = [size for size in fitting if 2 * size * longest * cost.per_token <= room] or [1]
    return fitting[-1]


def total_steps(pairs: int, config: TrainingConfig, at_once: int, world: int) -> int:
    """Optimizer steps of a run, counted as Trainer counts them."""
    if config.steps:
        return config.steps
    accumulation = config.batch_size // world // at_once
    an_epoch = max(1, math.ceil(math.ceil(pairs / (at_once * world)) / accumulation))
    return max(1, math.ceil(config.epochs * an_epoch))


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
