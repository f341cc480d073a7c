"""The optimiser of the bundled networks' trainings."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.data.shapes_training.muon import Muon, level


@given(st.integers(1, 24), st.integers(1, 24), st.floats(1e-3, 1e3), st.integers(0, 2**32))
def test_a_levelled_matrix_keeps_its_singular_vectors_and_loses_its_lengths(
    rows: int, columns: int, scale: float, seed: int
) -> None:
    """Directions of at least a hundredth of the longest; those shorter grow as far as the iteration takes them."""
    few = min(rows, columns)
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(rows, few, generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(columns, few, generator=generator, dtype=torch.float64))[0]
    lengths = torch.rand(few, generator=generator, dtype=torch.float64) * 0.9 + 0.1
    found = left.T @ level(left * lengths * scale @ right.T) @ right
    assert found.diag().min() > 0.6
    assert found.diag().max() < 1.3
    assert (found - found.diag().diag()).abs().max() < 1e-6


def test_steps_are_those_of_torchs_muon_but_for_its_bfloat16() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(12, 40, generator=generator)
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    here = Muon([ours], lr=0.01, weight_decay=0.1)
    there = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        gradient = torch.randn(12, 40, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        here.step()
        there.step()
    torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=0, atol=0.02 * (ours - start).abs().max().item())


def test_what_has_no_gradient_stays() -> None:
    still, moved = torch.ones(3, 3, requires_grad=True), torch.ones(3, 3, requires_grad=True)
    moved.grad = torch.eye(3)
    Muon([still, moved], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(still, torch.ones(3, 3))
    assert not torch.equal(moved, torch.ones(3, 3))


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_a_step_goes_down_the_gradient(shape: tuple[int, int]) -> None:
    matrix = torch.zeros(shape, requires_grad=True)
    target = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    optimiser = Muon([matrix], lr=0.2, weight_decay=0.0)
    losses = []
    for _ in range(20):
        loss = optimiser.step(lambda: _distance(matrix, target))
        assert loss is not None
        losses.append(loss)
    assert losses[-1] < 0.5 * losses[0]


def _distance(matrix: torch.Tensor, target: torch.Tensor) -> float:
    matrix.grad = None
    loss = (matrix - target).square().sum()
    loss.backward()
    return loss.item()
