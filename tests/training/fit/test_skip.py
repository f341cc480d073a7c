import math

import pytest

from training.config import SkipRule
from training.fit.skip import Skips

RULE = SkipRule(spike=5.0)


def settled() -> Skips:
    """After a dozen steps of norm 2."""
    skips = Skips()
    assert all(skips.admits(2.0, RULE) for _ in range(12))
    return skips


@pytest.mark.parametrize("norm", [math.nan, math.inf, 10.1])
def test_spikes_and_what_is_no_number_are_skipped_counted_and_forgotten(norm: float) -> None:
    skips = settled()
    assert not skips.admits(norm, RULE)
    assert not skips.admits(norm, RULE)
    assert (skips.skipped, skips.in_row, skips.mean, skips.taken) == (2, 2, 2.0, 12)
    assert skips.admits(9.9, RULE)
    assert (skips.skipped, skips.in_row) == (2, 0)


def test_no_norm_is_a_spike_before_there_is_a_mean() -> None:
    skips = Skips()
    assert all(skips.admits(norm, RULE) for norm in (1.0, 1000.0))
    assert not skips.admits(math.nan, RULE)


def test_the_mean_follows_norms_that_change() -> None:
    skips = settled()
    for _ in range(1000):
        assert skips.admits(1.0, RULE)
    assert skips.mean == pytest.approx(1.0, abs=1e-3)


def test_steps_without_a_gradient_say_nothing_of_what_is_a_spike() -> None:
    skips = Skips()
    assert all(skips.admits(norm, RULE) for norm in [0.0] * 20 + [1.0, 30.0, 2.0])
    assert all(skips.admits(2.0, RULE) for _ in range(40))
    assert not skips.admits(1000.0, RULE)
    mean = skips.mean
    assert skips.admits(0.0, RULE) and skips.mean == mean
