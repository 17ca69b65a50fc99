"""Scores of answers and the loss of pairs (Eq. 3 to 5 of RLHF-V, arXiv 2312.00849)."""

import torch
import torch.nn.functional as F


def score_answers(
    log_probs: torch.Tensor, pair: torch.Tensor, weights: torch.Tensor, pairs: int, normalised: bool
) -> torch.Tensor:
    """S(y) = Σ w log p of one side's answers, divided by Σ w when `normalised`; float32 `[pairs]`.

    Args:
        log_probs: `[tokens]`, of all pairs one after the other.
        pair: `[tokens]`, the pair each belongs to.
        weights: `[tokens]`, 0 for a token that is not part of this side.
    """
    weights = weights.float()
    score = torch.zeros(pairs, device=log_probs.device).index_add(0, pair, log_probs.float() * weights)
    if normalised:
        total = torch.zeros(pairs, device=log_probs.device).index_add(0, pair, weights)
        # Without any weighted token there is nothing to average: the score is 0, as it is in sum mode.
        score = score / total.clamp(min=torch.finfo(torch.float32).tiny)
    return score


def ddpo_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, chosen_start: torch.Tensor, rejected_start: torch.Tensor, beta: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """−log σ(β[(S_π − S_ref)(chosen) − (S_π − S_ref)(rejected)]) of each pair, and its two rewards β(S_π − S_ref).

    All tensors are `[pairs]`; `…_start` are the scores of the reference. The rewards carry no gradient.
    """
    chosen_reward, rejected_reward = beta * (chosen - chosen_start), beta * (rejected - rejected_start)
    return -F.logsigmoid(chosen_reward - rejected_reward), chosen_reward.detach(), rejected_reward.detach()
