import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from training.fit.ema import Ema

values = st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=20)


@given(values=values, decay=st.floats(0, 0.999))
def test_an_average_is_the_recursion_of_its_definition(values: list[float], decay: float) -> None:
    parameter, expected = nn.Parameter(torch.zeros(2)), 0.0
    ema = Ema({"a": parameter}, decay)
    for step, value in enumerate(values):
        parameter.data.fill_(value)
        ema.update(step)
        now = min(decay, (1 + step) / (10 + step))
        expected = now * expected + (1 - now) * value
    assert ema.averages["a"].tolist() == pytest.approx([expected] * 2, rel=1e-4, abs=1e-4)


def test_parameters_are_averages_within_and_themselves_after() -> None:
    parameter = nn.Parameter(torch.ones(2))
    ema = Ema({"a": parameter}, 0.5)
    parameter.data.fill_(3.0)
    with pytest.raises(KeyError), ema.swapped():
        assert (parameter.tolist(), ema.averages["a"].tolist()) == ([1, 1], [3, 3])
        raise KeyError
    assert (parameter.tolist(), ema.averages["a"].tolist()) == ([3, 3], [1, 1])


def test_a_decay_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ema is a decay in \[0, 1\), got 1.0"):
        Ema({}, 1.0)
