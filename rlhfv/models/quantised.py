"""Bases whose language model is held in 4 bits by bitsandbytes: where that works, and what it takes.

Nothing here imports torch or transformers until a model is measured.
"""

import importlib.util
from typing import TYPE_CHECKING

from rlhfv.errors import ModelUnavailable
from rlhfv.models.catalog import (
    Entry,
    MemoryEstimate,
    available_memory,
    estimate_memory,
    fetch_config,
    outline_model,
    possible_dtypes,
)
from rlhfv.units import human_bytes

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig

NF4_BYTES = 0.516
"""Per weight of a 4-bit base: half a byte, and a scale of one byte for 64 of them, scaled again for 256 scales."""


def refuse_four_bit_without_its_library(device: "torch.device") -> None:
    """Raises ModelUnavailable where a base cannot be held in 4 bits."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelUnavailable(
            "A 4-bit base is asked for, and bitsandbytes is not installed.",
            "The 4-bit layers are its own; this package does not bring it.",
            "Install it with `pip install bitsandbytes`, or hold the base in full.",
        )
    if device.type not in ("cuda", "cpu"):
        raise ModelUnavailable(
            f"A 4-bit base is asked for on {device.type}.",
            "Its layers have been tried on NVIDIA GPUs' and processors' own kernels only.",
            "Hold the base in full, or train on another machine.",
        )


def four_bit_chat(entry: Entry, device: "torch.device") -> dict:
    """How `LocalModel.load` holds a base in 4 bits for the chat.

    Raises:
        ModelUnavailable: there is no NVIDIA GPU, or bitsandbytes is not installed. Whether it fits is not asked here.
    """
    import torch

    refuse_four_bit_without_its_library(device)
    if device.type != "cuda":
        raise ModelUnavailable(
            f"A 4-bit base is asked for, and the models here run on {device.type}.",
            "Without an NVIDIA GPU each word of an answer would unpack all layers again, which takes far too long.",
            "Leave --base-weights out, or pick a smaller model.",
        )
    config = fetch_config(entry)
    dtype = possible_dtypes(config, device, estimate_memory(config, torch.float32).parameters)[0]
    return {"quantisation": four_bit_layers(entry, dtype), "dtype": dtype}


def refuse_four_bit_if_too_large(
    entry: Entry, device: "torch.device", available: int | None = None
) -> "tuple[torch.dtype, MemoryEstimate]":
    """The precision of what stays as it is, and what the base takes in 4 bits, known from the config alone.

    Raises:
        ModelUnavailable: it does not fit; with the figures.
    """
    import torch

    config = fetch_config(entry)
    dtype = possible_dtypes(config, device, estimate_memory(config, torch.float32).parameters)[0]
    estimate = estimate_four_bit(config, dtype)
    available = available_memory(device) if available is None else available
    if estimate.total > available:
        raise ModelUnavailable(
            f"{entry.id!r} does not fit in 4 bits either: it needs {human_bytes(estimate.total)}.",
            f"The weights take {human_bytes(estimate.weights)}, two answers at once about "
            f"{human_bytes(estimate.working)}; {human_bytes(available)} are free on {device.type}.",
            "Pick a smaller model, close what else uses that memory, or use a machine with more of it.",
        )
    return dtype, estimate


def estimate_four_bit(config, dtype: "torch.dtype") -> MemoryEstimate:
    """As `estimate_memory`, with the linear layers of the language model in NF4."""
    import torch

    full, decoder = estimate_memory(config, dtype), outline_model(config).get_decoder()
    linear = sum(module.weight.numel() for module in decoder.modules() if isinstance(module, torch.nn.Linear))
    saved = int(linear * (dtype.itemsize - NF4_BYTES))
    return MemoryEstimate(full.parameters, full.weights - saved, full.working)


def four_bit_layers(entry: Entry, dtype: "torch.dtype") -> "BitsAndBytesConfig":
    """NF4 with double quantisation (QLoRA, arXiv 2305.14314) for the linear layers of the language model; the vision
    tower, the projector and the vocabulary head stay as they are."""
    import torch
    from transformers import BitsAndBytesConfig

    outline = outline_model(fetch_config(entry))
    inside = set(outline.get_decoder().modules())
    linear = [name for name, module in outline.named_modules() if isinstance(module, torch.nn.Linear)]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=[name for name in linear if outline.get_submodule(name) not in inside],
    )
