"""Log-probabilities of answer tokens, and of nothing else: the vocabulary head runs on answer positions only."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

_HEAD_LOGITS = 2**24
"""Logits computed at once (64 MB in float32); more positions go through the head in pieces."""


@dataclass(frozen=True)
class Sites:
    """Where answer tokens are predicted: each a row of the batch, a position in it and the token that follows.

    All tensors are `[sites]`. A site belongs to a `pair` and carries one weight for each side's score: on rows that
    hold one answer one of the two is 0; a row that holds the shared start of both answers gives a site both.
    """

    rows: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    pair: torch.Tensor
    chosen_weights: torch.Tensor
    rejected_weights: torch.Tensor
    is_chosen: torch.Tensor
    is_rejected: torch.Tensor


def score_at_sites(base: torch.nn.Module) -> None:
    """Let `base(..., answer_sites=(rows, positions, targets))` return float32 log-probabilities `[sites]`.

    Anything else goes to the model's own forward. The forward of the base itself is replaced, before PEFT and
    accelerate wrap it, so that every hook of theirs still runs.
    """
    original = base.forward
    adjust = _logit_adjustment(base)

    @functools.wraps(original)  # generate looks at the signature
    def forward(*args, answer_sites=None, whole_logits: bool = False, **kwargs):
        if answer_sites is None:
            return original(*args, **kwargs)
        rows, positions, targets = answer_sites
        head = base.get_output_embeddings()
        if whole_logits or head is None or base.base_model is base:
            logits = original(*args, use_cache=False, **kwargs).logits[rows, positions]
            return -F.cross_entropy(logits.float(), targets, reduction="none")
        hidden = base.base_model(*args, use_cache=False, **kwargs).last_hidden_state[rows, positions]
        return _through_head(head, adjust, hidden, targets)

    base.forward = forward


def _through_head(head, adjust: Callable, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    def piece(states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return -F.cross_entropy(adjust(head(states)).float(), tokens, reduction="none")

    if isinstance(head.weight, DTensor):
        # Its shares are gathered at each call, by all devices together, and another device may have fewer pieces.
        return checkpoint(piece, hidden, targets, use_reentrant=False)
    size = max(1, _HEAD_LOGITS // head.weight.shape[0])
    if len(targets) <= size:
        return piece(hidden, targets)
    pieces = zip(hidden.split(size), targets.split(size), strict=True)
    return torch.cat([checkpoint(piece, *each, use_reentrant=False) for each in pieces])


def _logit_adjustment(base) -> Callable[[torch.Tensor], torch.Tensor]:
    """What some models do to logits after the head: a scale (Cohere, Granite …), then a soft cap (Gemma)."""
    config = base.config.get_text_config()
    scale = next(
        (
            value
            for name in ("logit_scale", "output_multiplier", "lm_head_multiplier")
            if (value := getattr(config, name, None)) is not None
        ),
        None,
    )
    divisor = getattr(config, "logits_scaling", None)
    if scale is None and divisor is not None:
        scale = divisor if config.model_type == "hyperclovax" else 1 / divisor
    cap = getattr(config, "final_logit_softcapping", None)

    def adjust(logits: torch.Tensor) -> torch.Tensor:
        logits = logits if scale is None else logits * scale
        return logits if cap is None else cap * torch.tanh(logits / cap)

    return adjust
