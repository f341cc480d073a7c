"""λ-ECLIPSE's equation 1, term by term."""

import math

import pytest
import torch

from training.modules.prior_loss import PriorLoss, prior_terms


def rows(seed: int) -> torch.Tensor:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def test_the_contrastive_term_is_the_equations_sum() -> None:
    predicted, target, pooled, loss = rows(0), rows(1), rows(2), PriorLoss(temperature=0.5, is_normalised=False)
    by_hand = 0.0
    for i in range(5):
        scores = [float(predicted[i] @ pooled[j]) / 0.5 for j in range(5)]
        by_hand -= math.log(math.exp(scores[i]) / sum(map(math.exp, scores))) / 5
    assert float(prior_terms(predicted, target, pooled, loss)["contrastive"]) == pytest.approx(by_hand, rel=1e-5)


def test_with_normalised_vectors_lengths_do_not_matter() -> None:
    one = prior_terms(rows(0), rows(1), rows(2), PriorLoss())["contrastive"]
    other = prior_terms(rows(0) * 7, rows(1), rows(2) * 3, PriorLoss())["contrastive"]
    torch.testing.assert_close(one, other)


def test_the_sum_over_a_vector_is_its_mean_times_its_length() -> None:
    mean = prior_terms(rows(0), rows(1), rows(2), PriorLoss())["projection"]
    summed = prior_terms(rows(0), rows(1), rows(2), PriorLoss(reduction="sum"))["projection"]
    torch.testing.assert_close(summed, mean * 8)
    torch.testing.assert_close(mean, (rows(0) - rows(1)).square().mean())
