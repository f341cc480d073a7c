"""λ-ECLIPSE's equation 1, term by term."""

import math
import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed

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


def _rank(rank: int, store: Path, out: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    own = slice(2 * rank, 2 * rank + 2)
    predicted = rows(0)[own].requires_grad_()
    prior_terms(predicted, rows(1)[own], rows(2)[own], PriorLoss())["contrastive"].backward()
    torch.save(predicted.grad, out / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_contrast_with_the_texts_of_both(tmp_path: Path) -> None:
    """The mean over ranks of their gradients is the gradient of the whole batch in one process."""
    context = multiprocessing.get_context("fork")  # the others import torch again, for many seconds
    ranks = [context.Process(target=_rank, args=(rank, tmp_path / "store", tmp_path)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [0, 0]
    whole = rows(0)[:4].requires_grad_()
    prior_terms(whole, rows(1)[:4], rows(2)[:4], PriorLoss())["contrastive"].backward()
    found = torch.cat([torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)])
    torch.testing.assert_close(found / 2, whole.grad)
