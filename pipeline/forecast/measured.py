"""What units of a run have cost, as forecasts need it: sums over units, and over units drawn anew."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.unit_record import UnitRecord
from pipeline.forecast.arithmetic import Costs, ForecastError, StageCost

Floats = NDArray[np.float64]

_MOST_DRAWN = 2000
"""Ours: an interval's ends are uncertain by themselves to some percent, which more units hardly better."""

_Z = 1.959964
"""The normal distribution's 97.5th percentile."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Measured:
    """Counts by unit, or by unit and node.

    Attributes:
        nodes: In order.
        rows: Source rows of each unit; ``kept`` and ``kept_bytes`` (shard and index), ``rejects_bytes`` likewise.
        entered: Records by unit and node; ``left``, ``seconds`` and ``downloaded`` likewise.
    """

    nodes: tuple[str, ...]
    rows: Floats
    kept: Floats
    kept_bytes: Floats
    rejects_bytes: Floats
    entered: Floats
    left: Floats
    seconds: Floats
    downloaded: Floats

    @classmethod
    def of(cls, records: Sequence[UnitRecord], nodes: Sequence[str]) -> "Measured":
        """The counts of committed units.

        Raises:
            ForecastError: If there are none, or a node was not run in them.
        """
        if not records:
            raise ForecastError("no unit is committed yet: nothing was measured")
        steps = [{step.node: step for step in record.steps} for record in records]
        if missing := [node for node in nodes if any(node not in found for found in steps)]:
            raise ForecastError(
                f"{', '.join(missing)}: not measured, the run's nodes are {', '.join(steps[0])}; give the folder of a "
                "run of this manifest, or --probe"
            )
        table = np.array(
            [
                [[s.records_in, s.records_out, s.seconds, s.downloaded] for s in (found[node] for node in nodes)]
                for found in steps
            ],
            float,
        ).reshape(len(records), len(nodes), 4)
        units = np.array([[r.rows, r.kept, r.tar_size + r.index_size, r.rejects_size] for r in records], float)
        rows, kept, kept_bytes, rejects_bytes = units.T
        entered, left, seconds, downloaded = np.moveaxis(table, 2, 0)
        return cls(
            nodes=tuple(nodes),
            rows=rows,
            kept=kept,
            kept_bytes=kept_bytes,
            rejects_bytes=rejects_bytes,
            entered=entered,
            left=left,
            seconds=seconds,
            downloaded=downloaded,
        )

    @property
    def unreached(self) -> tuple[str, ...]:
        """Nodes that no record came to: what they cost is not known."""
        return tuple(node for node, count in zip(self.nodes, self.entered.sum(0), strict=True) if not count)

    def survival(self) -> Iterator[tuple[float, float]]:
        """For each node the least and the greatest share of source rows that it may let through, by those counted.

        As if each row were drawn by itself. Source: Wilson 1927, "Probable Inference, the Law of Succession, and
        Statistical Inference".
        """
        rows = float(self.rows.sum())
        for left in self.left.sum(0).tolist():
            yield wilson(left, rows)

    def costs(self) -> Costs:
        """Over all units."""
        return self._costs(np.ones(len(self.rows)))

    def resampled(self, times: int, seed: int = 0) -> Iterator[Costs]:
        """Over as many units as there are, drawn with replacement, so many times: what another run might measure.

        Source: Efron 1979, "Bootstrap Methods". Units are drawn, not rows, as rows of a unit are alike; of very many,
        runs of neighbours.
        """
        blocks = self._blocks()
        rng, count = np.random.default_rng(seed), len(blocks.rows)
        for _ in range(times):
            yield blocks._costs(np.bincount(rng.integers(count, size=count), minlength=count).astype(float))

    def _blocks(self) -> "Measured":
        """The same with neighbours summed up where there are very many units."""
        starts = np.arange(0, len(self.rows), math.ceil(len(self.rows) / _MOST_DRAWN))
        sums: dict[str, Any] = {
            field.name: np.add.reduceat(getattr(self, field.name), starts, axis=0)
            for field in fields(self)
            if field.name != "nodes"
        }
        return replace(self, **sums)

    def _costs(self, weights: Floats) -> Costs:
        """Over units so many times each."""
        of_units = (self.rows, self.kept, self.kept_bytes, self.rejects_bytes, self.entered[:, 0])
        rows, kept, kept_bytes, rejects_bytes, first = (float(weights @ values) for values in of_units)
        sums = zip(self.nodes, *((weights @ values).tolist() for values in self._by_node), strict=True)
        return Costs(
            source_passes=_ratio(first, rows, 1.0),
            stages=tuple(_stage(*values) for values in sums),
            kept_bytes=_ratio(kept_bytes, kept, 0.0),
            rejected_bytes=_ratio(rejects_bytes, rows - kept, 0.0),
        )

    @property
    def _by_node(self) -> tuple[Floats, ...]:
        return self.entered, self.left, self.seconds, self.downloaded


def _stage(node: str, entered: float, left: float, seconds: float, downloaded: float) -> StageCost:
    return StageCost(
        node=node,
        passes=_ratio(left, entered, 1.0),
        seconds=_ratio(seconds, entered, 0.0),
        downloaded=_ratio(downloaded, left, 0.0),
    )


def wilson(part: float, whole: float) -> tuple[float, float]:
    """Ends of the score interval at 95 % of a share of which ``part`` of ``whole`` were counted."""
    share, weight = part / whole, _Z**2 / whole
    middle = (share + weight / 2) / (1 + weight)
    reach = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _ratio(part: float, whole: float, otherwise: float) -> float:
    return part / whole if whole > 0 else otherwise
