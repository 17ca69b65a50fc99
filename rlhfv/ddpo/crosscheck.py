"""Before a run: do the fast scores equal what the model itself says? If not, the slower ways are taken, and it is
said."""

from collections.abc import Callable
from itertools import product

import torch

from rlhfv.ddpo.batches import EncodedPair
from rlhfv.ddpo.vision import ImageInputs
from rlhfv.ddpo.watch import to_device
from rlhfv.errors import RunFailed
from rlhfv.models.prompts import encode_prompt

TOLERANCE = 1e-3
"""Nats per token on average; float32 rounding stays far below. In bfloat16 thirty times as much."""


@torch.no_grad()
def choose_fast_ways(
    model: torch.nn.Module,
    images: ImageInputs,
    score: Callable[[list[EncodedPair], bool], torch.Tensor],
    pairs: list[EncodedPair],
) -> tuple[bool, str]:
    """Compare the batch scores of the shortest and the longest pair with each answer alone through the model's own
    forward, from pixels to all logits. Switches `images.cached` off where kept features give other scores.

    Args:
        score: log-probabilities at the sites of a batch, in the order of `Collator`, with all logits when asked.

    Returns:
        Whether all logits are needed, and what was found in words ("" when the fast ways hold).

    Raises:
        RunFailed: no way gives the model's own scores.
    """
    ordered = sorted(pairs, key=lambda pair: pair.length)
    batch = [ordered[0], ordered[-1]]
    own = torch.cat([_score_alone(model, images, pair, side) for side in ("chosen", "rejected") for pair in batch])
    limit = TOLERANCE if images.base.dtype == torch.float32 else 30 * TOLERANCE
    difference = 0.0
    for whole_logits, cached in product((False, True), (True, False) if images.cached else (False,)):
        images.cached = cached
        difference = (score(batch, whole_logits).float().cpu() - own).abs().mean().item()
        if difference <= limit:
            slow = [] if cached or not images.kept_features_possible else ["image features cannot be kept"]
            slow += ["all logits have to be computed"] if whole_logits else []
            return whole_logits, "; ".join(slow)
    raise RunFailed(
        f"The scores of a batch differ from the model's own by {difference:.4f} nats a token.",
        "The model answers differently in company, or mixes its padding in: no score could be trusted.",
        "Use a model whose language part is causal, and report this one's name.",
    )


def _score_alone(model, images: ImageInputs, pair: EncodedPair, side: str) -> torch.Tensor:
    answer = getattr(pair, side)
    tensors = encode_prompt(images.processor, pair.conversation, images.image_path)
    ids = torch.tensor([pair.prompt + answer])
    types = {name: torch.tensor([values + [0] * len(answer)]) for name, values in pair.token_types.items()}
    inputs = {**tensors, "input_ids": ids, "attention_mask": torch.ones_like(ids), **types}
    logits = model(**to_device(inputs, images.base.device), use_cache=False).logits[0, len(pair.prompt) - 1 : -1]
    log_probs = logits.float().log_softmax(-1).cpu()
    return log_probs.gather(1, torch.tensor(answer)[:, None])[:, 0]
