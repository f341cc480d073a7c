"""Random numbers by place: what they depend on, and how they are spread."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from training.noise import Noise

KINDS = {
    "normal": lambda noise, shape: noise.normal("x", shape),
    "uniform": lambda noise, shape: noise.uniform("x", shape),
    "integers": lambda noise, shape: noise.integers("x", 1000, shape),
}
every_kind = pytest.mark.parametrize("draw", KINDS.values(), ids=KINDS)


@every_kind
@given(size=st.integers(1, 12), data=st.data())
def test_a_slot_draws_the_same_in_any_share_of_the_batch(draw, size: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    whole = draw(Noise(seed=3, step=9, slots=range(size)), (2, 3))
    part = draw(Noise(seed=3, step=9, slots=range(start, stop)), (2, 3))
    assert torch.equal(whole[start:stop], part)


@every_kind
def test_seed_step_and_slot_each_change_what_is_drawn(draw) -> None:
    places = [Noise(seed, step, range(slot, slot + 1)) for seed in (0, 1) for step in (0, 1) for slot in (0, 1)]
    drawn = {tuple(draw(place, (8,)).flatten().tolist()) for place in places}
    assert len(drawn) == len(places)


def test_names_draw_independently() -> None:
    noise = Noise(seed=0, step=0, slots=range(100))
    pair = torch.stack([noise.normal("one", (1000,)).flatten(), noise.normal("other", (1000,)).flatten()])
    assert abs(torch.corrcoef(pair)[0, 1]) < 4 / 100_000**0.5


def test_numbers_are_spread_as_they_say() -> None:
    noise = Noise(seed=5, step=1, slots=range(64))
    assert stats.kstest(noise.normal("n", (1000,)).flatten().numpy(), "norm").pvalue > 0.01
    assert stats.kstest(noise.uniform("u", (1000,)).flatten().numpy(), "uniform").pvalue > 0.01
    counts = torch.bincount(noise.integers("i", 10, (1000,)).flatten(), minlength=10)
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


def test_neighbouring_slots_and_steps_are_not_alike() -> None:
    rows = torch.cat([Noise(0, step, range(20)).normal("n", (2000,)) for step in range(3)])
    off_diagonal = torch.corrcoef(rows).fill_diagonal_(0).abs()
    assert off_diagonal.max() < 5.5 / 2000**0.5


def test_a_shape_of_no_axes_gives_a_number_a_slot() -> None:
    assert Noise(0, 0, range(4)).integers("t", 1000, ()).shape == (4,)
