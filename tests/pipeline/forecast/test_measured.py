"""Costs are those of the units that were measured."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.unit_record import StepCount, UnitRecord
from pipeline.forecast.arithmetic import ForecastError
from pipeline.forecast.measured import Measured, wilson
from tests.pipeline.test_progress import unit

NODES = ("paint", "name")


def records() -> list[UnitRecord]:
    sized = dataclasses.replace(unit(0), tar_size=7000, index_size=700, rejects_size=300)
    steps = (
        StepCount(node="paint", records_in=8, records_out=2, seconds=1.5, downloaded=600),
        StepCount(node="name", records_in=2, records_out=2, seconds=0.0),
    )
    return [sized, dataclasses.replace(unit(1), kept=2, steps=steps, tar_size=2000)]


def test_costs_are_ratios_of_sums_over_units() -> None:
    costs = Measured.of(records(), NODES).costs()
    paint, name = costs.stages
    assert costs.source_passes == 18 / 20
    assert (paint.passes, paint.seconds, paint.downloaded) == pytest.approx((9 / 18, 2 / 18, 600 / 9))
    assert (name.passes, name.seconds) == pytest.approx((1.0, 0.1 / 9))
    assert costs.kept_bytes == pytest.approx(9700 / 9) and costs.rejected_bytes == pytest.approx(300 / 11)


def test_units_drawn_anew_spread_around_what_was_measured_and_the_seed_decides_how() -> None:
    measured = Measured.of(records() * 20, NODES)
    passes = [costs.stages[0].passes for costs in measured.resampled(300)]
    assert passes == [costs.stages[0].passes for costs in measured.resampled(300)]
    assert np.percentile(passes, 2.5) < measured.costs().stages[0].passes < np.percentile(passes, 97.5)
    spread = 0.5 * np.std([7 / 10, 2 / 8]) * 2 / np.sqrt(40)
    assert 0.5 * spread < np.std(passes) < 2 * spread


def test_of_very_many_units_neighbours_are_drawn_together_and_all_count() -> None:
    many = Measured.of(records() * 2500, NODES)
    drawn = next(many.resampled(1))
    assert drawn.stages[0].passes == pytest.approx(9 / 18, abs=0.01)
    odd = Measured.of([*records() * 1000, unit(0)], NODES)
    (costs,) = odd.resampled(1, seed=3)
    assert costs.stages[0].passes == pytest.approx(odd.costs().stages[0].passes, abs=0.02)


def test_units_that_are_all_alike_leave_no_doubt() -> None:
    passes = {costs.stages[0].passes for costs in Measured.of([unit(0), unit(1)], NODES).resampled(50)}
    assert len(passes) == 1


def test_a_node_that_was_not_run_is_named() -> None:
    with pytest.raises(ForecastError, match="ground: not measured, the run's nodes are paint, name"):
        Measured.of(records(), ["paint", "ground"])


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [(10, 20, 0.2993, 0.7007), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilsons_interval_is_that_of_the_books(part: int, whole: int, low: float, high: float) -> None:
    assert wilson(part, whole) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**9), st.floats(0, 1))
def test_a_share_lies_in_its_interval_and_more_rows_narrow_it(whole: int, share: float) -> None:
    part = round(share * whole)
    low, high = wilson(part, whole)
    wide_low, wide_high = wilson(part / 10, whole / 10)
    ends = [0, wide_low, low, part / whole, high, wide_high, 1]
    assert all(lower <= upper + 1e-12 for lower, upper in pairwise(ends))


def test_no_units_are_no_measurement() -> None:
    with pytest.raises(ForecastError, match="nothing was measured"):
        Measured.of([], NODES)


def test_a_node_that_no_record_came_to_is_told() -> None:
    empty = tuple(StepCount(node=node, records_in=0, records_out=0, seconds=0.0) for node in NODES)
    measured = Measured.of([dataclasses.replace(unit(0), kept=0, steps=empty)], NODES)
    assert measured.unreached == NODES
    assert measured.costs().stages[0].passes == 1.0
