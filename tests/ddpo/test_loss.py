import math

import pytest
import torch

from rlhfv.ddpo.loss import ddpo_loss, score_answers

PAIR = torch.tensor([0, 0, 0, 1, 1])


def test_scores_are_weighted_sums_or_means():
    log_probs = torch.tensor([-1.0, -2.0, -3.0, -4.0, -5.0])
    weights = torch.tensor([1.0, 5.0, 1.0, 1.0, 0.0])
    assert score_answers(log_probs, PAIR, weights, 2, normalised=False).tolist() == [-14.0, -4.0]
    assert score_answers(log_probs, PAIR, weights, 2, normalised=True).tolist() == [-2.0, -4.0]


def test_scaling_all_weights_leaves_the_mean_and_repeating_a_text_too():
    log_probs, weights = torch.randn(5), torch.rand(5) + 0.1
    once = score_answers(log_probs, PAIR, weights, 2, normalised=True)
    torch.testing.assert_close(score_answers(log_probs, PAIR, 7 * weights, 2, normalised=True), once)
    twice = score_answers(log_probs.repeat(2), PAIR.repeat(2), weights.repeat(2), 2, normalised=True)
    torch.testing.assert_close(twice, once)


def test_an_answer_without_weighted_tokens_scores_nothing():
    score = score_answers(torch.tensor([-3.0]), torch.tensor([0]), torch.zeros(1), 1, normalised=True)
    assert score.tolist() == [0.0]


def test_policy_equal_to_reference_costs_ln_2():
    scores = torch.randn(4), torch.randn(4)
    losses, chosen, rejected = ddpo_loss(*scores, *scores, beta=0.5)
    assert losses.tolist() == pytest.approx([math.log(2)] * 4)
    assert chosen.tolist() == rejected.tolist() == [0.0] * 4


def test_the_loss_by_hand():
    values = [torch.tensor([value]) for value in (-10.0, -20.0, -12.0, -19.0)]
    losses, chosen, rejected = ddpo_loss(*values, beta=0.1)
    assert (chosen.item(), rejected.item()) == pytest.approx((0.2, -0.1))
    assert losses.item() == pytest.approx(math.log(1 + math.exp(-0.3)))


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_a_corrected_token_pulls_gamma_times_as_hard(gamma):
    log_probs = torch.zeros(3, requires_grad=True)
    weights = torch.tensor([1.0, gamma, 1.0])
    score = score_answers(log_probs, torch.zeros(3, dtype=torch.long), weights, 1, normalised=False)
    ddpo_loss(score, torch.zeros(1), torch.zeros(1), torch.zeros(1), 0.1)[0].sum().backward()
    assert (log_probs.grad[1] / log_probs.grad[0]).item() == pytest.approx(gamma)
