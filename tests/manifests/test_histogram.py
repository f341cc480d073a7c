"""Durations by classes: sums are exact, percentiles right to within a class."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from manifests.histogram import BOUNDS_S, EMPTY, Histogram

durations = st.lists(st.floats(0, 2000) | st.sampled_from(BOUNDS_S), max_size=60)


@given(durations, durations)
def test_a_sum_is_the_histogram_of_all(one: list[float], other: list[float]) -> None:
    together, both = Histogram.of(one) + Histogram.of(other), Histogram.of([*one, *other])
    assert together.counts == both.counts
    assert together.seconds == pytest.approx(both.seconds, abs=1e-5)
    assert together + EMPTY == EMPTY + together == together


@given(durations)
def test_each_bound_has_what_does_not_exceed_it_below(taken: list[float]) -> None:
    cumulative = Histogram.of(taken).cumulative
    assert cumulative == [sum(seconds <= bound for seconds in taken) for bound in (*BOUNDS_S, math.inf)]


@given(durations.filter(bool), st.floats(0.01, 1))
def test_a_percentile_lies_in_the_class_of_the_true_one(taken: list[float], share: float) -> None:
    histogram = Histogram.of(taken)
    true = sorted(taken)[max(0, math.ceil(share * len(taken)) - 1)]
    lower = max((bound for bound in BOUNDS_S if bound < true), default=0.0)
    upper = min((bound for bound in BOUNDS_S if bound >= true), default=BOUNDS_S[-1])
    assert lower - 1e-9 <= histogram.quantile(share) <= upper + 1e-9


def test_of_nothing_there_is_no_percentile() -> None:
    assert EMPTY.quantile(0.5) == 0.0 and EMPTY.count == 0
