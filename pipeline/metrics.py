"""A run's numbers for Prometheus: sums over committed unit records, and apart from them what is under way.

In the sums a unit counts once, when its record is there: retries inside a run, killed workers and resumed runs count
nothing twice, and a resumed run goes on from the sums of the one before it.
"""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from manifests.histogram import BOUNDS_S, Histogram
from pipeline.hosts import worst
from pipeline.ledger import RunInfo
from pipeline.live import Live
from pipeline.totals import StepTotals, Totals

_HOSTS = 20
"""Hosts with series of their own, of each step that downloads: the worst as of now, which is why they are a gauge."""


def families(info: RunInfo, totals: Totals) -> list[Metric]:
    """Every metric of a run as it stands, with the label ``run``, the manifest's name; docs/metrics.md lists them."""
    steps = totals.steps
    return [
        _rows(info, totals),
        *_sizes(info, totals),
        *_steps(info.name, steps),
        _seconds("inlay_step_batch_seconds", "Batches by their seconds", info.name, _batches(steps)),
        _seconds("inlay_step_record_seconds", "Records by their seconds, where told", info.name, _records(steps)),
        _hosts(info.name, steps),
    ]


def live_families(run: str, live: Live) -> list[Metric]:
    """What the driver's process is at, with the label ``run``: these are no sums over records."""
    under_way = GaugeMetricFamily(
        "inlay_units_in_flight", "Units that were begun and are not committed", labels=["run", "node"]
    )
    for node, count in live.in_flight.items():
        under_way.add_metric([run, node], count)
    spilled = CounterMetricFamily(
        "inlay_spilled_bytes", "Bytes that Ray wrote to disk for want of memory", labels=["run"]
    )
    spilled.add_metric([run], live.spilled)
    return [under_way, spilled]


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


def _batches(steps: Mapping[str, StepTotals]) -> Iterator[tuple[str, Histogram]]:
    return ((node, sums.batches) for node, sums in steps.items() if sums.batches.counts)


def _records(steps: Mapping[str, StepTotals]) -> Iterator[tuple[str, Histogram]]:
    return ((node, sums.records) for node, sums in steps.items() if sums.records.counts)


def _seconds(name: str, about: str, run: str, histograms: Iterable[tuple[str, Histogram]]) -> Metric:
    family = HistogramMetricFamily(name, about, labels=["run", "node"])
    bounds = [*map(floatToGoString, BOUNDS_S), "+Inf"]
    for node, histogram in histograms:
        counts = list(zip(bounds, map(float, histogram.cumulative), strict=True))
        family.add_metric([run, node], counts, histogram.seconds)
    return family


def _hosts(run: str, steps: Mapping[str, StepTotals]) -> Metric:
    labels = ["run", "node", "host", "reason"]
    family = GaugeMetricFamily("inlay_host_failed_records", "Records that failed at the worst hosts", labels=labels)
    for node, sums in steps.items():
        for error in worst(sums.hosts, _HOSTS):
            family.add_metric([run, node, error.host, error.reason], error.count)
    return family
