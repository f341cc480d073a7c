"""What Prometheus is told are sums over committed units: exact, also after a resume, and all at once."""

import io
import json
import re
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from typer.testing import CliRunner

from manifests.histogram import Histogram
from manifests.unit_record import HostErrors, UnitRecord
from pipeline.__main__ import app
from pipeline.ledger import Layout, RunInfo
from pipeline.live import Live
from pipeline.local import run_local
from pipeline.metrics import families, live_families
from pipeline.metrics_export import MetricsFile, MetricsPort
from pipeline.progress import JsonProgress, LineProgress, Progress, Together
from pipeline.run import Prepared, execute
from pipeline.totals import Totals
from tests.pipeline.test_progress import unit

DOCS = Path(__file__).parents[2] / "docs"


def samples(text: str) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value(text: str, name: str, **labels: str) -> float:
    found = [s.value for s in samples(text) if s.name == name and labels.items() <= s.labels.items()]
    assert found, f"no {name} {labels}"
    return sum(found)


class Asking(Progress):
    """Asks the port at every unit, as Prometheus might."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.answers: list[str] = []

    def start(self) -> None:
        self.update(unit(0))

    def update(self, record: object) -> None:
        with urllib.request.urlopen(self.urls[0].removeprefix("metrics: "), timeout=30) as answer:
            self.answers.append(answer.read().decode())

    def stop(self) -> None:
        pass


def test_a_scrape_at_any_time_sees_sums_that_agree(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    asking = Asking()
    execute(
        prepared(30), tmp_path / "out", run_local, Together(MetricsPort("127.0.0.1", 0, asking.urls.append), asking)
    )
    assert [value(text, "inlay_units", state="done") for text in asking.answers] == [0, 1, 2, 3, 4]
    for text in asking.answers:
        entered = value(text, "inlay_step_records_in_total", node="paint") if "paint" in text else 0
        rejected_at_source = sum(
            s.value for s in samples(text) if s.name == "inlay_rows_total" and s.labels["node"] == "source"
        )
        assert value(text, "inlay_rows_total") == entered + rejected_at_source
    with pytest.raises(OSError):
        urllib.request.urlopen(asking.urls[0].removeprefix("metrics: "), timeout=5)


def test_a_resumed_run_goes_on_from_the_sums_before_and_counts_nothing_twice(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    class StoppedError(Exception):
        pass

    class Stopping(Progress):
        def start(self) -> None:
            pass

        def update(self, record: object) -> None:
            if self.totals.units == 2:
                raise StoppedError

        def stop(self) -> None:
            pass

    file = tmp_path / "metrics" / "inlay.prom"
    with pytest.raises(StoppedError):
        execute(prepared(30), tmp_path / "out", run_local, Together(MetricsFile(file), Stopping()))
    assert value(file.read_text(), "inlay_units", state="done") == 2
    said = io.StringIO()
    execute(prepared(30), tmp_path / "out", run_local, Together(MetricsFile(file), JsonProgress(said)))
    text = file.read_text()
    records = list(Layout(tmp_path / "out").unit_records())
    rejected = Counter[tuple[str, str, str]]()
    for record in records:
        rejected.update({(r.kind, r.node, r.reason): r.count for r in record.rejections})
    assert value(text, "inlay_rows_total") == 30
    for (kind, node, reason), count in rejected.items():
        assert value(text, "inlay_rows_total", outcome=kind, node=node, reason=reason) == count
    size = sum(path.stat().st_size for name in ("shards", "rejects") for path in (tmp_path / "out" / name).iterdir())
    assert value(text, "inlay_written_bytes_total") == size
    batches = sum(step.batches.count for record in records for step in record.steps if step.node == "paint")
    assert value(text, "inlay_step_batch_seconds_count", node="paint") == batches >= len(records)
    stop = json.loads(said.getvalue().splitlines()[-1])
    assert stop["written_bytes"] == size and stop["rows_done"] == 30 and stop["units_left"] == 0
    assert {(r["kind"], r["node"], r["reason"]): r["count"] for r in stop["rejections"]} == rejected
    assert [path.name for path in file.parent.iterdir()] == ["inlay.prom"], "nothing half-written is left"


def test_the_bytes_of_fetched_files_are_counted_once_however_many_steps_follow(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    extra = "- {id: grab, stage: grab, needs: [paint]}\n- {id: look, stage: look, needs: [grab]}"
    execute(prepared(30, extra=extra), tmp_path / "out", run_local, LineProgress(io.StringIO()))
    records = list(Layout(tmp_path / "out").unit_records())
    assert {step.node for record in records for step in record.steps if step.downloaded} == {"grab"}
    reached = [row for row in range(30) if row % 10 != 9 and row not in (3, 5)]
    assert Totals.of(records).downloaded == sum(len(f"http://x/{row}") for row in reached)


def told(number: int) -> UnitRecord:
    """A unit's record with everything that steps tell."""
    record, seconds = unit(number), Histogram.of([0.03, 0.04, 2.0])
    paint = replace(
        record.steps[0], batches=seconds, records=seconds, hosts=(HostErrors(host="h:80", reason="dns", count=1),)
    )
    return replace(record, steps=(paint, *record.steps[1:]))


def test_histograms_count_batches_and_single_records(prepared: Callable[..., Prepared]) -> None:
    totals = Totals.of([told(0), told(1), unit(2)])
    for what in ("batch", "record"):
        (seconds,) = [f for f in families(prepared(20).info, totals) if f.name == f"inlay_step_{what}_seconds"]
        assert {s.labels["node"] for s in seconds.samples} == {"paint"}, "steps that tell nothing have no series"
        counts = {s.labels["le"]: s.value for s in seconds.samples if "le" in s.labels}
        assert (counts["0.025"], counts["0.05"], counts["2.5"], counts["+Inf"]) == (0, 4, 6, 6)
        (total,) = [s.value for s in seconds.samples if s.name.endswith("_sum")]
        assert total == pytest.approx(4.14)


def test_the_last_json_line_has_percentiles_and_hosts(prepared: Callable[..., Prepared]) -> None:
    said = io.StringIO()
    progress = JsonProgress(said, Live(in_flight={"paint": 2}, spilled=7))
    with progress.watching(prepared(20).info, []):
        progress.committed(told(0))
    one, last = map(json.loads, said.getvalue().splitlines()[-2:])
    assert (one["units_in_flight"], one["spilled_bytes"], last["spilled_bytes"]) == ({"paint": 2}, 7, 7)
    paint, name = last["steps"]
    assert paint["batches"]["count"] == 3 and 0.025 < paint["records"]["p50_s"] <= 0.05 < 1 < paint["batches"]["p99_s"]
    assert paint["hosts"] == [{"host": "h:80", "reason": "dns", "count": 1}]
    assert name["batches"]["count"] == 0 and name["hosts"] == []


def test_what_is_under_way_is_as_of_the_scrape(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    urls: list[str] = []
    live = Live()
    port = MetricsPort("127.0.0.1", 0, urls.append, live)
    with port.watching(prepared(20).info, []):
        live.in_flight, live.spilled = {"source": 1, "paint+name": 2}, 512
        with urllib.request.urlopen(urls[0].removeprefix("metrics: "), timeout=30) as answer:
            text = answer.read().decode()
    assert value(text, "inlay_units_in_flight") == 3
    assert value(text, "inlay_spilled_bytes_total") == 512


def test_a_file_tells_what_is_under_way_also_while_no_unit_ends(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    live, file = Live(), tmp_path / "inlay.prom"
    with MetricsFile(file, every_s=0.02, live=live).watching(prepared(20).info, []):
        live.in_flight, deadline = {"paint": 2}, time.monotonic() + 60
        while "inlay_units_in_flight{" not in file.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_unit_costs_its_metrics_nothing_until_somebody_asks(
    prepared: Callable[..., Prepared], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def counting(info: RunInfo, totals: Totals) -> list[Metric]:
        made.append(totals.units)
        return families(info, totals)

    monkeypatch.setattr("pipeline.metrics_export.families", counting)
    both = Together(MetricsPort("127.0.0.1", 0, print), MetricsFile(tmp_path / "inlay.prom", every_s=3600))
    with both.watching(prepared(20).info, []):
        for number in range(50):
            both.committed(unit(number))
    assert set(made) == {0, 50} and len(made) < 6


def test_a_file_that_cannot_be_written_for_a_while_ends_no_run(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    metrics = MetricsFile(tmp_path / "metrics" / "inlay.prom", every_s=0.01)
    with metrics.watching(prepared(20).info, []):
        (tmp_path / "metrics").rename(tmp_path / "away")
        metrics.committed(unit(0))
        time.sleep(0.1)
        (tmp_path / "away").rename(tmp_path / "metrics")
    assert value((tmp_path / "metrics" / "inlay.prom").read_text(), "inlay_units", state="done") == 1


def test_in_this_process_one_unit_is_under_way(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    seen: list[dict[str, int]] = []

    class Remembering(Live):
        def __setattr__(self, name: str, value: Any) -> None:
            seen.append(value)

    run = prepared(30)
    execute(run, tmp_path / "out", partial(run_local, live=Remembering()), LineProgress(io.StringIO()))
    (workers,) = (group.name for group in run.plan.groups)
    assert seen[2:] == [{"source": 1}, {workers: 1}, {}] * len(run.units)


def test_a_port_that_is_taken_is_named(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(OSError, match=rf"127.0.0.1:{port}: .*--metrics-port"):
            execute(prepared(8), tmp_path / "out", run_local, MetricsPort("127.0.0.1", port, print))


def test_together_all_see_the_same(prepared: Callable[..., Prepared]) -> None:
    streams = io.StringIO(), io.StringIO()
    together = Together(*map(LineProgress, streams))
    with together.watching(prepared(20).info, []):
        together.committed(unit(0))
    first, second = (stream.getvalue().splitlines() for stream in streams)
    assert first == second and first[-1].startswith("toy: 1 of 3 units; 7 kept")


def names(prepared: Prepared) -> set[str]:
    """Of everything that is exported, as queries name it."""
    return {s.name for family in everything(prepared) for s in family.samples}


def everything(prepared: Prepared) -> list[Metric]:
    live = Live(in_flight={"paint": 1}, spilled=1)
    return [*families(prepared.info, Totals.of([told(0)])), *live_families("toy", live)]


def test_every_panel_asks_for_metrics_and_labels_that_there_are(prepared: Callable[..., Prepared]) -> None:
    board = json.loads((DOCS / "grafana.json").read_text())
    exported = everything(prepared(20))
    labels = {s.name: set(s.labels) for family in exported for s in family.samples}
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) >= len(board["panels"]) > 0
    for query in queries:
        asked = re.findall(r"\b(inlay_\w+)\{([^}]*)\}", query)
        assert asked and len(asked) == query.count("inlay_"), query
        for name, matchers in asked:
            assert set(re.findall(r"(\w+)(?:=|!)", matchers)) <= labels[name], query
    used = {name for query in queries for name in re.findall(r"inlay_\w+", query)}
    assert {name for name in labels if not name.endswith(("_count", "_sum"))} == used, "each metric has its panel"


def test_the_list_in_the_docs_is_complete(prepared: Callable[..., Prepared]) -> None:
    told = set(re.findall(r"`(inlay_\w+)`", (DOCS / "metrics.md").read_text()))
    assert told == {re.sub("_(bucket|count|sum)$", "", name) for name in names(prepared(20))}


def test_the_command_line_exports_where_it_is_told(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    text = prepared(20).file.text
    (tmp_path / "toy.yaml").write_text(text)
    words = ["run", tmp_path / "toy.yaml", "--out", tmp_path / "out", "--local", "--metrics-file", tmp_path / "a.prom"]
    done = CliRunner().invoke(app, [*map(str, words), "--metrics-port", "0"])
    assert done.exit_code == 0, done.output
    assert re.search(r"metrics: http://127\.0\.0\.1:\d+/metrics", done.stderr)
    assert value((tmp_path / "a.prom").read_text(), "inlay_rows_total") == 20
