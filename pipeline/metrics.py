"""A run's numbers for Prometheus: sums over committed unit records and nothing else.

A unit counts once, when its record is there: retries inside a run, killed workers and resumed runs count nothing twice,
and a resumed run goes on from the sums of the one before it.
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from pipeline.ledger import RunInfo
from pipeline.totals import RECORD_SECONDS, StepTotals, Totals


def families(info: RunInfo, totals: Totals) -> list[Metric]:
    """Every metric of a run as it stands, with the label ``run``, the manifest's name; docs/metrics.md lists them."""
    return [_rows(info, totals), *_sizes(info, totals), *_steps(info.name, totals.steps), _seconds(info.name, totals)]


def _rows(info: RunInfo, totals: Totals) -> Metric:
    rows = CounterMetricFamily(
        "inlay_rows",
        "Source rows by what became of them; node and reason are empty for kept ones",
        labels=["run", "outcome", "node", "reason"],
    )
    rows.add_metric([info.name, "kept", "", ""], totals.kept)
    for (kind, node, reason), count in sorted(totals.rejected.items()):
        rows.add_metric([info.name, kind, node, reason], count)
    return rows


def _sizes(info: RunInfo, totals: Totals) -> Iterator[Metric]:
    units = GaugeMetricFamily("inlay_units", "Units by state: done is committed", labels=["run", "state"])
    units.add_metric([info.name, "done"], totals.units)
    units.add_metric([info.name, "left"], info.units - totals.units)
    yield units
    source = GaugeMetricFamily("inlay_source_rows", "Rows that the whole run has", labels=["run"])
    source.add_metric([info.name], info.rows)
    yield source
    written = CounterMetricFamily("inlay_written_bytes", "Bytes of shards, indices and rejects", labels=["run"])
    written.add_metric([info.name], totals.written)
    yield written
    downloaded = CounterMetricFamily("inlay_downloaded_bytes", "Bytes of files fetched", labels=["run"])
    downloaded.add_metric([info.name], totals.downloaded)
    yield downloaded


def _steps(run: str, steps: Mapping[str, StepTotals]) -> Iterator[Metric]:
    labels = ["run", "node"]
    entered = CounterMetricFamily("inlay_step_records_in", "Records that came into a step", labels=labels)
    left = CounterMetricFamily("inlay_step_records_out", "Records that a step let through", labels=labels)
    seconds = CounterMetricFamily("inlay_step_seconds", "Seconds of workers that a step took", labels=labels)
    for node, sums in steps.items():
        entered.add_metric([run, node], sums.records_in)
        left.add_metric([run, node], sums.records_out)
        seconds.add_metric([run, node], sums.seconds)
    yield from (entered, left, seconds)


def _seconds(run: str, totals: Totals) -> Metric:
    family = HistogramMetricFamily(
        "inlay_step_record_seconds", "Units by a step's mean seconds a record in them", labels=["run", "node"]
    )
    bounds = [*map(floatToGoString, RECORD_SECONDS), "+Inf"]
    for node, sums in totals.steps.items():
        counts = list(zip(bounds, map(float, accumulate(sums.units)), strict=True))
        family.add_metric([run, node], counts, sums.mean_seconds)
    return family
