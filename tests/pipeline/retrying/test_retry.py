"""Rows that are tried again: every row counts once, wherever and however often it failed before."""

import io
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from manifests.tar import read_samples
from manifests.unit_record import UnitRecord
from pipeline.__main__ import app
from pipeline.cluster import RayOptions, run_on_ray
from pipeline.job import Job
from pipeline.ledger import Layout, ResumeError
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.report.collect import collect
from pipeline.report.page import write_page
from pipeline.retrying.retry import count, retry
from pipeline.retrying.retry_plan import RetryError, latest_plan, read_rejected
from pipeline.run import Executor, Prepared, execute
from pipeline.sources.base import Unit
from pipeline.totals import Totals
from pipeline.verify import verify
from stages.pixels import write_jpeg
from tests.pipeline.toys import Paint, PaintIn

Prepare = Callable[..., Prepared]
Sums = Callable[[Path], dict[str, str]]
Web = list[frozenset[int]]


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    """Rows that ``paint`` fails by attempt: the last entry holds from then on."""
    down: Web = [frozenset()]
    paint = Paint._paint

    def painted(stage: Paint, record: PaintIn) -> Any:
        from stages.base import Fail

        return Fail("broken") if record.row in down[0] else paint(stage, record)

    monkeypatch.setattr(Paint, "_paint", painted)
    return down


def quietly() -> LineProgress:
    return LineProgress(io.StringIO())


def run(prepared: Prepared, out: Path) -> Layout:
    execute(prepared, out, run_local, quietly())
    return Layout(out)


def try_again(layout: Layout, *classes: str, executor: Executor = run_local) -> int:
    return retry(layout, classes, executor, quietly())[0].left


def fates(layout: Layout) -> Counter[tuple[str, str]]:
    """Every key with what became of it, once for each time that the folder tells of it."""
    told = Counter((row.key, row.reason) for row in read_rejected(layout))
    for unit in layout.committed():
        with layout.tar(unit).open("rb") as file:
            told.update((key, "kept") for key, _ in read_samples(file))
    return told


def key(row: int) -> str:
    return f"{'0' * 12}_{row:09d}"


def test_rows_that_succeed_now_are_kept_in_further_shards_and_no_longer_count_as_failed(
    prepared: Prepare, tmp_path: Path, web: Web, shard_sums: Sums
) -> None:
    web[0] = frozenset({1, 2, 11, 12, 20})
    layout = run(prepared(24, params="{drops: [3], fails: []}"), tmp_path / "out")
    before = shard_sums(layout.root)
    assert count(layout, ["broken"]) == {"paint.broken": 5}
    web[0] = frozenset({12})
    assert try_again(layout, "broken") == 0
    after = shard_sums(layout.root)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {f"shards/000003.{kind}" for kind in ("tar", "parquet")} | {
        "rejects/000003.parquet"
    }
    totals = Totals.of(layout.unit_records())
    assert (totals.rows, totals.kept) == (24, 24 - 2 - 1 - 1)
    assert totals.rejected == {
        ("dropped", "paint", "unlucky"): 1,
        ("failed", "source", "no_url"): 2,
        ("failed", "paint", "broken"): 1,
    }
    assert fates(layout)[key(12), "broken"] == fates(layout)[key(11), "kept"] == 1
    assert verify(layout) == ([], 4, 4)
    record = layout.unit_record("000003")
    assert record.attempt == 2 and [part.unit for part in record.supersedes] == [0, 1, 2]


def test_report_and_steps_count_each_row_where_it_was_last(prepared: Prepare, tmp_path: Path, web: Web) -> None:
    web[0] = frozenset({1, 2, 11, 12})
    layout = run(prepared(24, params="{drops: [], fails: []}"), tmp_path / "out")
    web[0] = frozenset({12})
    try_again(layout, "broken")
    summary = collect(layout)
    funnel = {step.node: (step.records_in, step.records_out) for step in summary.steps}
    assert funnel == {"source": (24, 22), "paint": (22, 21), "name": (21, 21)}
    assert (summary.rows, summary.kept, summary.failed, summary.unbalanced) == (24, 21, 3, ())
    (loss,) = summary.steps[1].losses
    assert [example.row for example in loss.examples] == [12]
    page = write_page(layout, summary, samples=2).read_text()
    assert "All 3 units are committed. Rows that were tried again are in 1 more." in " ".join(page.split())


def test_a_retry_that_was_cut_off_goes_on_to_the_same_bytes(
    prepared: Prepare, tmp_path: Path, web: Web, shard_sums: Sums
) -> None:
    def cut(job: Job, units: Sequence[Unit]) -> Iterator[UnitRecord]:
        yield next(run_local(job, units))
        raise KeyboardInterrupt

    layouts = []
    for name in ("whole", "cut"):
        web[0] = frozenset(range(0, 40, 2))
        layouts.append(run(prepared(40, params="{drops: [], fails: []}"), tmp_path / name))
    web[0] = frozenset({4})
    try_again(layouts[0], "broken")
    with pytest.raises(KeyboardInterrupt):
        try_again(layouts[1], "broken", executor=cut)
    with pytest.raises(ResumeError, match=r"attempt 2 \(broken\) was cut off; finish it first.*--class broken"):
        try_again(layouts[1], "no_url")
    assert len(layouts[1].committed()) == 6
    assert try_again(layouts[1], "broken") == 0
    assert shard_sums(layouts[1].root) == shard_sums(layouts[0].root)
    plan = latest_plan(layouts[1])
    assert plan and plan.attempt == 2 and not plan.left(layouts[1])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(down=st.lists(st.frozensets(st.integers(0, 24)), min_size=2, max_size=4), rows=st.integers(1, 25))
def test_whatever_fails_however_often_each_row_is_accounted_for_exactly_once(
    prepared: Prepare, tmp_path_factory: pytest.TempPathFactory, web: Web, down: list[frozenset[int]], rows: int
) -> None:
    web[0] = down[0]
    layout = run(prepared(rows, params="{drops: [3], fails: []}"), tmp_path_factory.mktemp("run") / "out")
    failing = set(down[0]) - {row for row in range(rows) if row % 10 == 9}
    for web[0] in down[1:]:
        try_again(layout, "paint.broken")
        failing &= web[0]
    told = fates(layout)
    assert set(told.values()) == {1}
    assert {name for name, _ in told} == {key(row) for row in range(rows)} and len(told) == rows
    assert {name for name, reason in told if reason == "broken"} == {key(row) for row in failing if row < rows}
    totals = Totals.of(layout.unit_records())
    assert totals.rows == rows == totals.kept + sum(totals.rejected.values())
    mistakes, found, units = verify(layout)
    assert not mistakes and found == units


def test_a_class_nobody_knows_is_refused_with_those_there_are(prepared: Prepare, tmp_path: Path, web: Web) -> None:
    layout = run(prepared(16, params="{drops: [3, 4], fails: [5]}"), tmp_path / "out")
    with pytest.raises(
        RetryError, match=r"no class brokn in this run; rejected rows by class:\s+paint.unlucky: 2 rows"
    ):
        try_again(layout, "brokn")
    assert try_again(layout, "stage_error") == 0
    assert latest_plan(layout) is None


def test_verify_finds_rows_that_two_units_account_for(prepared: Prepare, tmp_path: Path, web: Web) -> None:
    web[0] = frozenset(range(16))
    layout = run(prepared(16, params="{drops: [], fails: []}"), tmp_path / "out")
    web[0] = frozenset()
    try_again(layout, "broken")
    path = layout.unit("000003")
    plain = json.loads(path.read_text())
    plain["supersedes"][0]["keys"][0] = "nobody"
    plain["supersedes"].append(json.loads(layout.unit("000002").read_text())["supersedes"][0])
    path.write_text(json.dumps(plain))
    mistakes, _, _ = verify(layout)
    assert any("nobody first" in mistake for mistake in mistakes)
    assert any("is also tried again by unit 000002" in mistake for mistake in mistakes)


def test_a_resumed_run_leaves_retries_alone(prepared: Prepare, tmp_path: Path, web: Web) -> None:
    web[0] = frozenset({1})
    target = prepared(16, params="{drops: [], fails: []}")
    layout = run(target, tmp_path / "out")
    web[0] = frozenset()
    try_again(layout, "broken")
    said = io.StringIO()
    assert execute(target, layout.root, run_local, LineProgress(said)).left == 0
    assert len(layout.committed()) == 3
    assert said.getvalue().splitlines()[-1].endswith("2 of 2 units; 15 kept, 0 dropped, 1 failed; done")


def test_a_unit_made_anew_leaves_its_rows_to_the_retry_that_accounts_for_them(
    prepared: Prepare, tmp_path: Path, web: Web
) -> None:
    web[0] = frozenset({1, 2, 11})
    target = prepared(16, params="{drops: [3], fails: []}")
    layout = run(target, tmp_path / "out")
    web[0] = frozenset({2, 11})
    try_again(layout, "broken")
    before, counts = fates(layout), Totals.of(layout.unit_records())
    web[0] = frozenset()
    layout.unit("000000").unlink()
    assert execute(target, layout.root, run_local, quietly()).left == 0
    after = Totals.of(layout.unit_records())
    assert fates(layout) == before
    assert (after.rows, after.kept, after.rejected) == (counts.rows, counts.kept, counts.rejected)
    assert [(s.records_in, s.records_out) for s in after.steps.values()] == [
        (s.records_in, s.records_out) for s in counts.steps.values()
    ]
    assert verify(layout)[0] == []


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_on_ray_the_same_bytes(prepared: Prepare, tmp_path: Path, shard_sums: Sums) -> None:
    sums = []
    on_ray: Executor = lambda job, units: run_on_ray(job, units, RayOptions())  # noqa: E731
    for name, executor in (("local", run_local), ("ray", on_ray)):
        layout = run(prepared(40, params="{raises: [1, 12, 31], drops: []}"), tmp_path / name)
        assert try_again(layout, "stage_error", executor=executor) == 0
        rejects = pq.read_table(layout.rejects("000005")).to_pylist()
        assert [(row["row"], row["reason"]) for row in rejects] == [(row, "stage_error") for row in (1, 12, 31)]
        sums.append(shard_sums(layout.root))
    assert sums[0] == sums[1]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A manifest over 60 files, every other one no picture."""
    (tmp_path / "pictures").mkdir()
    for number in range(60):
        pixels = np.full((64, 64, 3), number, np.uint8)
        data = b"<html>" if number % 2 else write_jpeg(pixels).data
        (tmp_path / "pictures" / f"{number:02}.jpg").write_bytes(data)
        (tmp_path / "pictures" / f"{number:02}.txt").write_text(f"grey {number}")
    manifest = tmp_path / "folder.yaml"
    manifest.write_text(
        f"""
name: folder
source: {{kind: folder, path: {tmp_path / "pictures"}, unit_rows: 3}}
nodes:
- {{id: decode, stage: decode, params: {{min_side: 32}}}}
- {{id: caption, stage: caption, needs: [decode]}}
"""
    )
    return manifest


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


@pytest.mark.fire
def test_killed_anywhere_the_same_command_finishes_the_attempt(
    pictures: Path, tmp_path: Path, shard_sums: Sums
) -> None:
    for name in ("quiet", "killed"):
        done = call("run", pictures, "--out", tmp_path / name, "--local")
        assert done.returncode == 0, done.stderr
    retry_it = ["retry", tmp_path / "killed", "--class", "not_an_image", "--local"]
    assert "30 of them" not in call("retry", tmp_path / "quiet", "--class", "not_an_image", "--local").stdout
    layout = Layout(tmp_path / "killed")
    kills = 0
    for units in (20, 21, 23, 25):
        process = subprocess.Popen([sys.executable, "-m", "pipeline", *map(str, retry_it)], stdout=subprocess.DEVNULL)
        while len(layout.committed()) < units and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        plan = latest_plan(layout)
        if plan and not plan.left(layout):  # it came to its end before the signal did
            break
    else:
        done = call(*retry_it)
        assert done.returncode == 0, done.stderr
    assert kills
    assert shard_sums(layout.root) == shard_sums(tmp_path / "quiet")
    assert "30 of 30 units verified, 0 mistakes" in call("verify", layout.root).stdout
    assert "attempt 2 (not_an_image): 10 of 10 units done, 30 rows" in call("status", layout.root).stdout


def test_the_command_counts_and_refuses_in_words(prepared: Prepare, tmp_path: Path) -> None:
    out = str(run(prepared(8, params="{drops: [], fails: [1, 2]}"), tmp_path / "out").root)
    dry = CliRunner().invoke(app, ["retry", out, "--class", "paint.broken", "--dry-run"])
    assert dry.exit_code == 0 and "2 paint.broken" in dry.output and "2 rows would be tried again" in dry.output
    wrong = CliRunner().invoke(app, ["retry", out, "--class", "timeout", "--dry-run"])
    assert wrong.exit_code == 2 and "paint.broken: 2 rows" in wrong.output
