import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.models.sampling import NanWatch, SeededSampler

NO_IDS = torch.zeros(1, 0, dtype=torch.long)


def drawn(sampler: SeededSampler, scores: Tensor) -> list[int]:
    """The one token of each row that is left, as greedy search takes it."""
    left = sampler(NO_IDS, scores)
    assert ((left == 0).sum(dim=1) == 1).all() and ((left == 0) | (left == -math.inf)).all()
    return left.argmax(dim=1).tolist()


def test_tokens_come_as_often_as_they_are_likely() -> None:
    probabilities = torch.tensor([0.1, 0.6, 0.0, 0.3])
    count = torch.zeros(4)
    sampler = SeededSampler(range(500), temperature=1.0, top_p=1.0)
    for _ in range(20):
        count += torch.tensor(drawn(sampler, probabilities.log().expand(500, 4))).bincount(minlength=4)
    # Ten thousand draws: five standard deviations are 0.025.
    assert count[2] == 0 and torch.allclose(count / count.sum(), probabilities, atol=0.025)


@pytest.mark.parametrize(("top_p", "expected"), [(0.5, {1}), (0.6001, {1, 3}), (0.95, {0, 1, 3}), (1e-9, {1})])
def test_only_the_likeliest_that_make_up_top_p_are_drawn_from(top_p: float, expected: set[int]) -> None:
    scores = torch.tensor([0.1, 0.6, 0.0, 0.3]).log().expand(400, 4)
    assert set(drawn(SeededSampler(range(400), 1.0, top_p), scores)) == expected


def test_heat_levels_and_cold_sharpens() -> None:
    scores = torch.tensor([0.0, 3.0]).expand(1000, 2)
    hot, cold = (sum(drawn(SeededSampler(range(1000), t, 1.0), scores)) for t in (100.0, 0.01))
    assert 400 < hot < 600 and cold == 1000


@given(seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5), steps=st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_a_row_draws_the_same_whatever_its_neighbours(seeds: list[int], steps: int) -> None:
    scores = [torch.randn(len(seeds), 30, generator=torch.Generator().manual_seed(n)) for n in range(steps)]
    together = SeededSampler(seeds, 1.3, 0.9)
    found = [drawn(together, step) for step in scores]
    for row, seed in enumerate(seeds):
        alone = SeededSampler([seed], 1.3, 0.9)
        assert [drawn(alone, step[row : row + 1])[0] for step in scores] == [tokens[row] for tokens in found]


def test_a_row_of_nan_is_noted_for_good_and_the_others_are_left_alone() -> None:
    watch = NanWatch(3, "cpu")
    scores = torch.tensor([[1.0, -math.inf], [math.nan, 2.0], [3.0, 4.0]])
    assert torch.equal(watch(NO_IDS, scores), torch.tensor([[1.0, -math.inf], [0.0, 2.0], [3.0, 4.0]]))
    watch(NO_IDS, torch.zeros(3, 2))
    assert watch.is_nan.tolist() == [False, True, False]
