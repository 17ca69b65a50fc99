"""Before a run: do the fast scores equal what the model itself says? If not, the slower ways are taken, and it is
said."""

from collections.abc import Callable
from itertools import product

import torch

from rlhfv.ddpo.batches import EncodedPair
from rlhfv.ddpo.devices import all_values
from rlhfv.ddpo.packing import packed_length, shared_start, why_not_packed
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
        Whether all logits are needed, and what was found in words ("" when the fast ways hold); the same on all
        devices, the worst of them deciding.

    Raises:
        RunFailed: no way gives the model's own scores.
    """
    ordered = sorted(pairs, key=lambda pair: pair.length)
    batch = [ordered[0], ordered[-1]]
    own = torch.cat([_score_alone(model, images, pair, side) for side in ("chosen", "rejected") for pair in batch])
    limit = _limit(images.base)
    difference = 0.0
    for whole_logits, cached in product((False, True), (True, False) if images.cached else (False,)):
        images.cached = cached
        here = (score(batch, whole_logits).float().cpu() - own).abs().mean().nan_to_num(torch.inf)
        difference = max(all_values(here.item()))
        if difference <= limit:
            slow = [] if cached or not images.kept_features_possible else ["image features cannot be kept"]
            slow += ["all logits have to be computed"] if whole_logits else []
            return whole_logits, "; ".join(slow)
    raise RunFailed(
        f"The scores of a batch differ from the model's own by {difference:.4f} nats a token.",
        "The model answers differently in company, or mixes its padding in: no score could be trusted.",
        "Use a model whose language part is causal, and report this one's name.",
    )


@torch.no_grad()
def compare_packed(
    plain: Callable[[list[EncodedPair]], torch.Tensor],
    packed: Callable[[list[EncodedPair]], torch.Tensor],
    pairs: list[EncodedPair],
    base,
) -> str:
    """Compare the scores of packed rows with those of two rows a pair, for the shortest and the longest pair.

    Args:
        plain, packed: log-probabilities of the tokens of all chosen answers, then of all rejected ones.

    Returns:
        Why packed rows cannot be used, "" when both ways say the same on all devices.
    """
    return next(filter(None, all_values(why_not_packed(base) or _compare_here(plain, packed, pairs, base))), "")


def _compare_here(plain, packed, pairs: list[EncodedPair], base) -> str:
    ordered = sorted(pairs, key=packed_length)
    batch = [ordered[0], ordered[-1]]
    own = plain(batch).float().cpu()
    try:
        difference = (packed(batch).float().cpu() - own).abs()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a model's code may refuse masks and positions in any way
        return f"the model refuses them with {type(error).__name__}: {str(error)[:200]}"
    answers = [*(pair.chosen for pair in batch), *(pair.rejected for pair in batch)]
    branch = torch.cat([torch.arange(len(a)) >= shared_start(p) for a, p in zip(answers, batch * 2, strict=True)])
    # The start that answers share is right under many wrong masks, so it may not thin out what a branch says.
    worst = max(part.mean().item() for part in (difference[branch], difference[~branch]) if len(part))
    return "" if worst <= _limit(base) else f"their scores differ from two rows a pair by {worst:.4f} nats a token"


def _limit(base) -> float:
    rounded = base.dtype.itemsize < 4 or torch.is_autocast_enabled(base.device.type)
    return 30 * TOLERANCE if rounded else TOLERANCE


def _score_alone(model, images: ImageInputs, pair: EncodedPair, side: str) -> torch.Tensor:
    answer = getattr(pair, side)
    tensors = encode_prompt(images.processor, pair.conversation, images.image_path)
    ids = torch.tensor([pair.prompt + answer])
    types = {
        name: torch.tensor([values + [pair.answer_type] * len(answer)]) for name, values in pair.token_types.items()
    }
    inputs = {**tensors, "input_ids": ids, "attention_mask": torch.ones_like(ids), **types}
    logits = model(**to_device(inputs, images.base.device), use_cache=False).logits[0, len(pair.prompt) - 1 : -1]
    log_probs = logits.float().log_softmax(-1).cpu()
    return log_probs.gather(1, torch.tensor(answer)[:, None])[:, 0]
