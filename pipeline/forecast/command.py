"""What ``python -m pipeline plan`` is asked, and where its answer comes from."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path

from manifests.dag import ManifestFile, parse_manifest
from manifests.record import Record, StepUse
from manifests.unit_record import UnitRecord
from pipeline.forecast.arithmetic import ForecastError, Question
from pipeline.forecast.basis import Basis, gpu_nodes
from pipeline.forecast.node_types import read_cluster
from pipeline.forecast.prices import read_prices
from pipeline.forecast.probe import has_gpu, probe
from pipeline.forecast.report import ForecastReport, make_report
from pipeline.ledger import Layout
from pipeline.plan import bind
from pipeline.progress import Progress
from pipeline.sources import open_source

PROBE_ROWS = 256
"""Rows of a probe, unless told otherwise."""

_HOURS = {"d": 24.0, "h": 1.0, "m": 1 / 60, "s": 1 / 3600}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """The command's options, as :func:`forecast_run` takes them.

    Attributes:
        rows: Source rows; without it, those that the manifest's source has.
        measured: The folder of a run; without it, ``probe`` rows are run here.
        nodes: A Ray cluster file.
    """

    rows: int | None
    deadline_h: float | None
    busy: float
    prices: Path | None
    measured: Layout | None
    probe: int
    nodes: Path
    speedups: Mapping[str, float]


def forecast_run(file: ManifestFile, options: PlanOptions, progress: Callable[[], Progress]) -> ForecastReport:
    """Forecast a manifest.

    Args:
        file: The manifest.
        options: What is asked.
        progress: Makes who is told of a probe's course.

    Raises:
        ForecastError, ManifestError, SourceError, ResumeError, FatalError, OSError: What the user can correct.
    """
    plan = bind(file, frozenset(field.name for field in fields(Record)), find_models=options.measured is None)
    cluster = read_cluster(options.nodes)
    prices = read_prices(options.prices, [kind.name for kind in cluster.kinds]) if options.prices else None
    rows = (
        options.rows if options.rows is not None else sum(part.rows for part in open_source(file.manifest.source).parts)
    )
    records, where, with_gpu, ran = _measure(file, options, progress)
    return make_report(
        Basis(
            plan=plan,
            records=records,
            measured_in=where,
            gpu_nodes=with_gpu,
            ran=ran,
            cluster=cluster,
            prices=prices,
            question=Question(rows=rows, deadline_h=options.deadline_h, busy=options.busy, head=cluster.head),
            speedups=options.speedups,
        )
    )


def _measure(
    file: ManifestFile, options: PlanOptions, progress: Callable[[], Progress]
) -> tuple[Sequence[UnitRecord], str, frozenset[str], Sequence[StepUse]]:
    """Units, where they are from, the nodes that had a GPU in them, and the steps if they may be others."""
    if options.measured is None:
        with_gpu = gpu_nodes(file) if has_gpu(file) else frozenset()
        return probe(file, options.probe, progress()), "a probe", with_gpu, ()
    info = options.measured.read_run()
    if info.packed_from is not None:
        raise ForecastError(
            f"{options.measured.root} was packed, which keeps no times; give the run it was packed from"
        )
    ran = parse_manifest(info.manifest, str(options.measured.run))
    return list(options.measured.unit_records()), str(options.measured.root), gpu_nodes(ran), info.steps


def parse_rows(text: str) -> int:
    """A count, also as ``2_000_000_000`` or ``2e9``.

    Raises:
        ForecastError: If it is none.
    """
    try:
        rows = Decimal(text)
    except InvalidOperation:
        rows = Decimal("NaN")
    if not rows.is_finite() or rows != rows.to_integral_value() or not 1 <= rows <= 10**15:
        raise ForecastError(f"--rows {text!r} is no count of rows; write 2_000_000_000 or 2e9")
    return int(rows)


def parse_hours(text: str) -> float:
    """A duration in hours, from ``72h``, ``3d``, ``90m`` or ``1d12h``.

    Raises:
        ForecastError: If it is none.
    """
    if not _DURATION.fullmatch(text):
        raise ForecastError(f"--deadline {text!r} is no duration; write 72h, 3d, 90m or 1d12h")
    hours = sum(float(amount) * _HOURS[unit] for amount, unit in re.findall(r"([\d.]+)([dhms])", text))
    if not hours:
        raise ForecastError(f"--deadline {text!r} leaves no time")
    return hours


def parse_speedups(texts: Sequence[str]) -> dict[str, float]:
    """Factors by node, from ``NODE=20`` each.

    Raises:
        ForecastError: If one is none.
    """
    found = {}
    for text in texts:
        node, _, factor = text.partition("=")
        try:
            found[node] = float(factor)
        except ValueError:
            found[node] = 0.0
        if not 0 < found[node] < 1e6:
            raise ForecastError(f"--speedup {text!r}: write NODE=FACTOR, a factor above 0, e.g. ground=20")
    return found
