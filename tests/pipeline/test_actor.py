"""What an error means: data, or the end of the run."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manifests.dag import parse_manifest
from manifests.record import Record, Row
from pipeline.actor import Work, Worker, reject
from pipeline.plan import bind
from pipeline.run import Prepared
from pipeline.sources.base import Unit
from stages.base import Fail

Prepare = Callable[..., Prepared]

WEB = """
name: web
source: {kind: parquet, paths: [none.parquet]}
nodes:
- {id: fetch, stage: fetch, batch_size: 4}
- {id: decode, stage: decode, needs: [fetch]}
"""


def work(prepared: Prepared, unit: int = 0) -> Work:
    """A unit after all groups."""
    done = Work(unit=prepared.units[unit], rows=tuple(prepared.source.read(prepared.units[unit])))
    for group in prepared.plan.groups:
        done = Worker(prepared.plan, group).run(done)
    return done


def verdicts(rows: tuple[Row, ...]) -> Counter[str]:
    return Counter(row.verdict.reason if row.verdict else "kept" for row in rows)


def test_every_row_is_kept_dropped_or_failed(prepared: Prepare) -> None:
    done = work(prepared(8))
    assert verdicts(done.rows) == {"kept": 6, "unlucky": 1, "broken": 1}
    assert [(step.node, step.records_in, step.records_out) for step in done.steps] == [("paint", 8, 6), ("name", 6, 6)]
    assert [row.record.row for row in done.rows] == list(range(8))


def test_a_row_the_source_failed_reaches_no_stage(prepared: Prepare) -> None:
    done = work(prepared(16), unit=1)
    assert verdicts(done.rows) == {"kept": 7, "no_url": 1}
    assert done.steps[0].records_in == 7


def test_an_exception_fails_only_its_record(prepared: Prepare) -> None:
    done = work(prepared(8, params="{raises: [2]}"))
    assert verdicts(done.rows) == {"kept": 5, "unlucky": 1, "broken": 1, "stage_error": 1}
    verdict = done.rows[2].verdict
    assert verdict and verdict.message.startswith("ValueError: odd value at ") and "toys.py" in verdict.message


def test_a_rejected_record_travels_light(prepared: Prepare) -> None:
    row = work(prepared(8)).rows[3]
    assert row.record.image is None and row.record.original is None


def test_a_message_that_is_not_unicode_can_be_written(prepared: Prepare) -> None:
    (row, *_) = prepared(8).source.read(Unit(number=0, part=0, start=0, stop=8))
    verdict = reject(row.record, "failed", "fetch", Fail("http_429", "Retry-After: \udce9, später")).verdict
    assert verdict and verdict.message == "Retry-After: ?, später"


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ("{raises: [2], error: NameError}", "NameError: name 'x' is not defined"),
        ("{raises: [2], error: ImportError}", "ImportError: No module named 'x'"),
        ("{raises: [2], error: ENOSPC}", "No space left on device"),
        ("{load_error: ImportError}", "ImportError: No module named 'x'"),
        ("{load_error: ValueError}", "node 'paint' (paint) cannot be loaded: ValueError: odd value"),
        ("{returns: few}", "node 'paint' returned 0 results for 4 records"),
        ("{returns: wrong_type}", "node 'paint' returned str, not PaintOut"),
        ("{returns: undeclared}", "node 'paint' gave reason 'undeclared', which its stage does not declare"),
    ],
)
def test_a_bug_or_a_broken_setup_ends_the_run(prepared: Prepare, params: str, says: str) -> None:
    done = work(prepared(8, params=params))
    assert done.fatal and says in done.fatal and not done.rows


def test_an_ordinary_input_error_is_data(prepared: Prepare) -> None:
    assert verdicts(work(prepared(8, params="{raises: [2], error: OSError}")).rows)["stage_error"] == 1


def test_failures_in_a_row_end_the_run_with_a_diagnosis(prepared: Prepare) -> None:
    done = work(prepared(8, params="{drops: [], fails: [1, 2, 3, 4]}", extra="max_consecutive_failures: 3"))
    assert done.fatal and "node 'paint' failed 3 records in a row: 3 x broken" in done.fatal


def test_failures_with_successes_between_do_not(prepared: Prepare) -> None:
    done = work(prepared(8, params="{fails: [1, 2, 5, 6]}", extra="max_consecutive_failures: 3"))
    assert done.fatal is None


@pytest.mark.parametrize(
    ("urls", "counted"),
    [
        (["http://10.0.0.1/a"] * 12, 3),
        (["http://10.0.0.1/a", "http://10.0.0.2/a"] * 6, 6),
        ([f"http://10.0.0.{number}/a" for number in range(12)], 12),
        (["ftp://a.test/"] * 12, 12),
    ],
)
def test_of_downloads_one_of_each_host_counts_in_a_batch(urls: list[str], counted: int) -> None:
    """A dead host with many rows beside each other is no broken node; hosts that are all dead are one."""
    unit = Unit(number=0, part=0, start=0, stop=len(urls))
    rows = tuple(Row(record=Record(key=url, source="s", row=row, url=url)) for row, url in enumerate(urls))
    for most, is_fatal in ((counted, True), (counted + 1, False)):
        manifest = parse_manifest(f"{WEB}max_consecutive_failures: {most}", "web")
        plan = bind(manifest, frozenset({"url", "caption"}))
        done = Worker(plan, plan.groups[0]).run(Work(unit=unit, rows=rows))
        assert (done.fatal is not None) == is_fatal, done.fatal


def test_after_a_fatal_error_nothing_more_is_done(prepared: Prepare) -> None:
    run = prepared(8)
    worker = Worker(run.plan, run.plan.groups[0])
    assert worker.run(Work(unit=run.units[0], rows=(), fatal="stop")).fatal == "stop"


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 9), raises=st.sets(st.integers(0, 7)))
def test_batching_changes_nothing(prepared: Prepare, batch_size: int, raises: set[int]) -> None:
    params = f"{{raises: {sorted(raises)}}}"
    expected = work(prepared(8, params=params, batch_size=1)).rows
    assert work(prepared(8, params=params, batch_size=batch_size)).rows == expected


def test_downloaded_files_are_let_go_once_nothing_reads_them(prepared: Prepare) -> None:
    run = prepared(8)
    rows = [Row(record=_with_original(row.record)) for row in run.source.read(Unit(number=0, part=0, start=0, stop=8))]
    done = Worker(run.plan, run.plan.groups[0]).run(Work(unit=run.units[0], rows=tuple(rows)))
    assert all(row.record.original is None for row in done.rows)


def _with_original(record: Any) -> Any:
    import dataclasses

    return dataclasses.replace(record, original=b"file")
