from collections.abc import Callable

import pytest
import torch

from tests.training.fit.toy import toy_recipe
from training.config import Optimiser, Schedule, SkipRule


@pytest.mark.parametrize("name", ["batch_size", "micro_batch", "steps", "save_every", "log_every", "keep"])
def test_a_recipe_counts_from_one(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        toy_recipe(**{name: 0})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: toy_recipe(sample_every=-1), "sample_every must be at least 1, got -1"),
        (lambda: toy_recipe(seed=2**64), r"seed must be a whole number from -2\*\*63 .*, got 18446744073709551616"),
        (lambda: toy_recipe(seed=-(2**63) - 1), "seed must be a whole number"),
        (lambda: toy_recipe(seed=1.5), "seed must be a whole number.*got 1.5"),
        (lambda: Schedule(warmup=-5), "warmup must be at least 0, got -5"),
        (lambda: SkipRule(most=0), "most must be at least 1, got 0"),
        (lambda: SkipRule(spike=float("nan")), "spike must be at least 1, got nan"),
        (lambda: Optimiser(max_norm=0.0), "max_norm must be above 0, got 0.0"),
    ],
)
def test_values_that_no_run_can_have_are_told(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("seed", [-(2**63), 2**64 - 1])
def test_a_seed_may_be_all_that_torch_takes(seed: int) -> None:
    torch.Generator().manual_seed(toy_recipe(seed=seed).seed)
