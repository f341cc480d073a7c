"""How large a run will be: arithmetic that can be done by hand, and what holds for any costs."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.forecast.arithmetic import (
    Costs,
    Forecast,
    ForecastError,
    NodeType,
    Pool,
    Question,
    StageCost,
    forecast,
    place,
)

FETCH = Pool(nodes=("fetch", "decode"), needs={"CPU": 2.0, "GPU": 0.0, "download": 1.0}, most=64)
GROUND = Pool(nodes=("ground",), needs={"CPU": 1.0, "GPU": 0.25}, most=8)
POOLS = [FETCH, GROUND]
HEAD = NodeType(name="head", resources={"CPU": 0})
DOWNLOAD = NodeType(name="download", resources={"CPU": 16, "download": 16})
VISION = NodeType(name="vision", resources={"CPU": 16, "GPU": 1})
BIG = NodeType(name="big", resources={"CPU": 48, "GPU": 4, "large": 4})
KINDS = [HEAD, DOWNLOAD, VISION, BIG]
COSTS = Costs(
    source_passes=0.9,
    stages=(
        StageCost(node="fetch", passes=0.5, seconds=0.36, downloaded=100_000),
        StageCost(node="decode", passes=0.8, seconds=0.01),
        StageCost(node="ground", passes=0.5, seconds=0.2),
    ),
    kept_bytes=50_000,
    rejected_bytes=100,
)


def run(costs: Costs = COSTS, rows: float = 1e6, deadline_h: float | None = 10, busy: float = 1.0) -> Forecast:
    return forecast(costs, place(POOLS, KINDS, {}), Question(rows=rows, deadline_h=deadline_h, busy=busy, head="head"))


def test_a_funnel_calculated_by_hand() -> None:
    found = run()
    assert [round(stage.rows_in) for stage in found.stages] == [900_000, 450_000, 360_000]
    assert round(found.kept) == 180_000
    fetch, decode, ground = found.stages
    assert (fetch.hours, decode.hours, ground.hours) == pytest.approx((90, 1.25, 20))
    assert (fetch.cpu_hours, ground.cpu_hours, ground.gpu_hours) == pytest.approx((180, 20, 5))
    assert found.downloaded == pytest.approx(450_000 * 100_000)
    assert found.written == pytest.approx(180_000 * 50_000 + 820_000 * 100)


def test_machines_calculated_by_hand() -> None:
    fetch, ground = run().pools
    assert (fetch.node_type, fetch.workers, ground.node_type, ground.workers) == ("download", 10, "vision", 2)
    machines = {machine.node_type: machine for machine in run().machines}
    assert machines["download"].machines == 2, "ten workers of two CPUs on machines of 16"
    assert machines["download"].hours == pytest.approx(91.25 / 8)
    assert machines["vision"].machines == 1
    assert (machines["head"].machines, machines["head"].hours) == (1, 10)


def test_workers_that_wait_a_fifth_of_the_time_must_be_a_quarter_more() -> None:
    assert run(busy=0.8).machines[0].hours == pytest.approx(run().machines[0].hours * 1.25)


def test_without_a_deadline_there_are_hours_but_no_machines() -> None:
    found = run(deadline_h=None)
    assert {pool.workers for pool in found.pools} == {machine.machines for machine in found.machines} == {None}
    assert [machine.node_type for machine in found.machines] == ["download", "vision"]


@pytest.mark.parametrize(("need", "gpus", "share"), [(0.4, 1, 1 / 2), (0.4, 2, 1 / 4), (0.1, 1, 0.1), (2, 4, 0.5)])
def test_a_fraction_of_a_gpu_lies_on_one_gpu(need: float, gpus: int, share: float) -> None:
    assert NodeType(name="x", resources={"GPU": gpus}).share("GPU", need) == pytest.approx(share)


def test_workers_do_not_share_what_does_not_divide() -> None:
    assert NodeType(name="x", resources={"CPU": 16}).share("CPU", 10) == 1


def test_prices_decide_where_a_pool_runs() -> None:
    dear = {"vision": 10.0, "big": 2.0}
    assert [kind.name for _, kind in place([GROUND], KINDS, dear)] == ["big"]
    cheap = {"vision": 0.1, "big": 2.0}
    assert [kind.name for _, kind in place([GROUND], KINDS, cheap)] == ["vision"]


def test_a_worker_that_fits_nowhere_is_named_with_what_it_reserves() -> None:
    with pytest.raises(ForecastError, match=r"ground, which reserves 1 CPU, 0.25 GPU"):
        place([GROUND], [DOWNLOAD], {})


def test_the_network_carries_the_bytes_while_workers_work() -> None:
    found = run(rows=1e6, deadline_h=10, busy=0.8)
    assert found.rate(found.downloaded) == pytest.approx(1e6 * 0.9 * 0.5 * 100_000 / (10 * 3600 * 0.8))
    assert run(deadline_h=None).rate(1.0) is None


shares = st.floats(0.01, 1)
costs = st.builds(
    lambda source, stages, kept: Costs(
        source_passes=source,
        stages=tuple(
            StageCost(node=node, passes=passes, seconds=seconds, downloaded=1000.0)
            for node, (passes, seconds) in zip(("fetch", "decode", "ground"), stages, strict=True)
        ),
        kept_bytes=kept,
        rejected_bytes=kept / 100,
    ),
    shares,
    st.tuples(*[st.tuples(shares, st.floats(0, 10, allow_subnormal=False))] * 3),
    st.floats(1, 1e6),
)
rows = st.integers(1, 10**10)
hours = st.floats(0.1, 1000)


@given(costs, rows, st.floats(1, 100))
def test_everything_but_whole_machines_is_linear_in_rows(costs: Costs, rows: int, factor: float) -> None:
    once, more = run(costs, rows), run(costs, rows * factor)
    assert more.kept == pytest.approx(once.kept * factor)
    assert (more.downloaded, more.written) == pytest.approx((once.downloaded * factor, once.written * factor))
    for before, after in zip(once.stages, more.stages, strict=True):
        assert dataclasses.astuple(after)[1:] == pytest.approx([v * factor for v in dataclasses.astuple(before)[1:]])
    for one, other in zip(once.machines[:-1], more.machines[:-1], strict=True):
        assert other.hours == pytest.approx(one.hours * factor)


@given(costs, rows)
def test_what_is_kept_is_the_product_of_what_each_stage_lets_through(costs: Costs, rows: int) -> None:
    product = costs.source_passes * math.prod(stage.passes for stage in costs.stages)
    assert run(costs, rows).kept == pytest.approx(rows * product)


@given(costs, rows, hours, shares)
def test_machines_have_the_time_for_the_work(costs: Costs, rows: int, deadline: float, busy: float) -> None:
    found = run(costs, rows, deadline, busy)
    for pool in found.pools:
        assert pool.workers is not None and pool.workers * deadline * busy >= pool.hours * (1 - 1e-9)
    for machine in found.machines:
        assert machine.machines is not None and machine.machines * deadline >= machine.hours * (1 - 1e-6)
    of_gpus = next(m for m in found.machines if m.node_type == "vision")
    assert of_gpus.machines is not None and of_gpus.machines * deadline >= found.gpu_hours * (1 - 1e-6)


@given(costs, rows, hours, st.floats(1, 10))
def test_more_time_never_takes_more_machines(costs: Costs, rows: int, deadline: float, longer: float) -> None:
    soon, late = run(costs, rows, deadline), run(costs, rows, deadline * longer)
    for one, other in zip(soon.machines, late.machines, strict=True):
        assert (other.machines or 0) <= (one.machines or 0)


@given(costs, rows, st.sampled_from(["fetch", "decode", "ground"]), st.floats(1, 50), shares)
def test_faster_or_stricter_never_costs_more(costs: Costs, rows: int, node: str, speed: float, passes: float) -> None:
    now = run(costs, rows)
    for changed in (run(costs.changed(node, speed=speed), rows), run(costs.changed(node, passes=passes), rows)):
        assert changed.cpu_hours <= now.cpu_hours * (1 + 1e-9) and changed.gpu_hours <= now.gpu_hours * (1 + 1e-9)
        for one, other in zip(now.machines, changed.machines, strict=True):
            assert (other.machines or 0) <= (one.machines or 0)
