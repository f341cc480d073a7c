"""A forecast with how sure it is, what is in its way, and what a change would do."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from manifests.record import to_plain
from pipeline.forecast.arithmetic import Costs, Forecast, ForecastError, Question, StageForecast, forecast, place
from pipeline.forecast.basis import Basis, pools_of
from pipeline.forecast.measured import Measured
from pipeline.forecast.notes import notes
from pipeline.forecast.prices import Cost, Prices, bill

_Weight: TypeAlias = Callable[[StageForecast], float]

_RESAMPLED = 400
_FASTER, _FEWER = 2.0, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where 95 of 100 measurements of as many units would fall."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How sure a stage's figures are; of one unit's hours nothing is known."""

    node: str
    rows_out: Interval
    hours: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a change of one stage would do to the run, as shares of what it is now: -0.1 is a tenth less."""

    what: str
    kept: float
    cpu_hours: float
    gpu_hours: float
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastReport:
    """What ``python -m pipeline plan`` tells.

    Attributes:
        rows_measured: Source rows that the costs come from, in ``units_measured`` units of ``measured_in``.
        spreads: By stage.
        bottleneck: The pool that bounds the run's time with the workers that the manifest allows, and that time.
        dearest: The stage that takes most of the cost, or else of GPU-hours, or else of CPU-hours; and its share.
        bill: Line by line; empty without prices.
        changes: The ones that save most first.
        notes: What to know before one relies on it.
    """

    name: str
    measured_in: str
    rows_measured: int
    units_measured: int
    question: Question
    forecast: Forecast
    spreads: tuple[Spread, ...]
    bottleneck: str
    bottleneck_hours: float
    dearest: str
    dearest_share: float
    currency: str | None
    bill: tuple[Cost, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def total(self) -> float:
        """The bill's sum."""
        return sum(line.amount for line in self.bill)


class _Maker:
    """Makes one report."""

    def __init__(self, basis: Basis) -> None:
        nodes = [step.node.id for step in basis.plan.steps]
        if strangers := basis.speedups.keys() - set(nodes):
            raise ForecastError(f"--speedup names {', '.join(sorted(strangers))}; the nodes are {', '.join(nodes)}")
        self.basis = basis
        self.measured = Measured.of(basis.records, nodes)
        if self.measured.unreached:
            raise ForecastError(_unreached(self.measured.unreached))
        self.costs = self._sped_up(self.measured.costs())
        prices = basis.prices.node_hours if basis.prices else {}
        self.placed = place(pools_of(basis.plan), basis.cluster.kinds, prices)
        self.forecast = self._forecast(self.costs)

    def _sped_up(self, costs: Costs) -> Costs:
        for node, factor in self.basis.speedups.items():
            costs = costs.changed(node, speed=factor)
        return costs

    def _forecast(self, costs: Costs) -> Forecast:
        return forecast(costs, self.placed, self.basis.question)

    def report(self) -> ForecastReport:
        slowest = max(self.forecast.pools, key=lambda pool: pool.hours / pool.most)
        dearest, share = self._dearest()
        return ForecastReport(
            name=self.basis.plan.name,
            measured_in=self.basis.measured_in,
            rows_measured=sum(record.rows for record in self.basis.records),
            units_measured=len(self.basis.records),
            question=self.basis.question,
            forecast=self.forecast,
            spreads=tuple(self._spreads()),
            bottleneck=slowest.name,
            bottleneck_hours=slowest.hours / slowest.most / self.basis.question.busy,
            dearest=dearest,
            dearest_share=share,
            currency=self.basis.prices.currency if self.basis.prices else None,
            bill=bill(self.forecast, self.basis.prices) if self.basis.prices else (),
            changes=tuple(
                sorted(self._changes(), key=lambda change: change.cost or change.gpu_hours + change.cpu_hours)
            ),
            notes=tuple(notes(self.basis, self.forecast)),
        )

    def _spreads(self) -> Iterator[Spread]:
        again = [self._forecast(self._sped_up(costs)).stages for costs in self.measured.resampled(_RESAMPLED)]
        is_sure = len(self.basis.records) > 1
        for place_, (stage, shares) in enumerate(zip(self.forecast.stages, self.measured.survival(), strict=True)):
            low, high = (share * self.forecast.rows for share in shares)
            drawn = _interval([stages[place_].rows_out for stages in again])
            rows = Interval(low=min(low, drawn.low), high=max(high, drawn.high))
            hours = _interval([stages[place_].hours for stages in again]) if is_sure else None
            yield Spread(node=stage.node, rows_out=rows, hours=hours)

    def _machine_cost(self, found: Forecast) -> float | None:
        prices = self.basis.prices
        return sum(line.amount for line in bill(found, prices)) if prices else None

    def _dearest(self) -> tuple[str, float]:
        """The stage with most of the money for machines, GPU-hours or CPU-hours, whichever is known first."""
        weights: list[_Weight] = [lambda s: s.gpu_hours, lambda s: s.cpu_hours, lambda s: s.hours]
        if self.basis.prices:
            weights.insert(0, self._price_of(self.basis.prices))
        for weight in weights:
            by_stage = {stage.node: weight(stage) for stage in self.forecast.stages}
            if total := sum(by_stage.values()):
                node = max(by_stage, key=lambda name: by_stage[name])
                return node, by_stage[node] / total
        return self.forecast.stages[0].node, 0.0

    def _price_of(self, prices: Prices) -> _Weight:
        rates = {
            node: prices.node_hours[kind.name] * kind.load(pool) for pool, kind in self.placed for node in pool.nodes
        }
        return lambda stage: stage.hours * rates[stage.node]

    def _changes(self) -> Iterator[Change]:
        for stage in self.costs.stages:
            yield self._change(f"{stage.node}: twice as fast", self.costs.changed(stage.node, speed=_FASTER))
            fewer = self.costs.changed(stage.node, passes=_FEWER)
            yield self._change(f"{stage.node}: lets a tenth fewer through", fewer)

    def _change(self, what: str, costs: Costs) -> Change:
        now, then = self.forecast, self._forecast(costs)
        before, after = self._machine_cost(now), self._machine_cost(then)
        return Change(
            what=what,
            kept=_by(now.kept, then.kept),
            cpu_hours=_by(now.cpu_hours, then.cpu_hours),
            gpu_hours=_by(now.gpu_hours, then.gpu_hours),
            cost=None if before is None or after is None else _by(before, after),
        )


def _unreached(nodes: Sequence[str]) -> str:
    return (
        f"{', '.join(nodes)}: no record came to it, so what it costs is not known and no forecast can be made; measure "
        "more rows (--probe N, or --from a longer run), or see which node before it rejects them all"
    )


def _interval(values: Sequence[float]) -> Interval:
    low, high = np.percentile(values, (2.5, 97.5))
    return Interval(low=float(low), high=float(high))


def _by(before: float, after: float) -> float:
    return after / before - 1 if before else 0.0


def make_report(basis: Basis) -> ForecastReport:
    """The forecast and what belongs to it.

    Raises:
        ForecastError: If nothing was measured, a worker fits no machine, or a speed-up names no node.
    """
    return _Maker(basis).report()


def to_json(report: ForecastReport) -> dict[str, object]:
    """The report as plain values."""
    plain = {name: to_plain(getattr(report, name)) for name in report.__slots__ if name != "bill"}
    return plain | {
        "bill": {line.what: line.amount for line in report.bill},
        "total": report.total if report.bill else None,
    }
