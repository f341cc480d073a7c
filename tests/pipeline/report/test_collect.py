import json
import re
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import SCHEMA_VERSION
from manifests.shard import SchemaVersionError
from pipeline.ledger import Layout, ResumeError
from pipeline.report.collect import choose, collect, place, spread
from tests.pipeline.report.fixture import rejected, synthetic_rows, write_run


def _edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_every_row_is_kept_dropped_or_failed(tmp_path: Path) -> None:
    run = collect(write_run(tmp_path, [synthetic_rows(20), synthetic_rows(9, first=100)]))
    assert run.rows == 20 + 5 + 9 + 3
    assert run.rows == run.kept + run.dropped + run.failed
    assert (run.kept, run.unbalanced) == (29, ())


def test_each_step_starts_where_the_one_before_ended(tmp_path: Path) -> None:
    run = collect(write_run(tmp_path, [synthetic_rows(20), synthetic_rows(8, first=100)]))
    assert run.steps[0].node == "source"
    assert run.steps[0].records_in == run.rows
    assert run.steps[-1].records_out == run.kept
    for before, after in pairwise(run.steps):
        assert after.records_in == before.records_out
        assert after.records_in - after.records_out == after.lost("dropped") + after.lost("failed")


def test_a_unit_without_a_record_does_not_count_though_its_shard_is_there(tmp_path: Path) -> None:
    layout = write_run(tmp_path, [synthetic_rows(4), synthetic_rows(4, first=50)])
    layout.unit("000001").unlink()
    assert layout.tar("000001").exists()
    run = collect(layout)
    assert (run.rows, run.kept) == (5, 4)
    assert choose(run.units, 100) == {"000000": [0, 1, 2, 3]}


def test_reasons_carry_their_meaning_and_failures_stand_first(tmp_path: Path) -> None:
    rows = [rejected(i, "dropped", "select", "too_small", "64 pixels") for i in range(3)]
    rows += [rejected(9, "failed", "select", "stage_error", "ValueError: no")]
    (losses,) = [step.losses for step in collect(write_run(tmp_path, [rows])).steps if step.losses]
    assert [(loss.kind, loss.reason, loss.count) for loss in losses] == [
        ("failed", "stage_error", 1),
        ("dropped", "too_small", 3),
    ]
    assert losses[1].meaning == "the picture's shorter side is under `min_side`"
    assert losses[0].meaning == ""


def test_examples_are_few_and_spread_over_all_units(tmp_path: Path) -> None:
    units = [[rejected(100 * unit + i, "dropped", "select", "too_small") for i in range(6)] for unit in range(4)]
    (losses,) = [step.losses for step in collect(write_run(tmp_path, units)).steps if step.losses]
    examples = losses[0].examples
    assert [example.row // 100 for example in examples] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert all(example.thumbnail for example in examples)
    assert examples[0].url == f"https://example.org/{examples[0].row}.jpg"


def test_a_loss_at_a_node_that_is_no_step_is_counted_too(tmp_path: Path) -> None:
    run = collect(write_run(tmp_path, [[*synthetic_rows(4), rejected(77, "failed", "isolation", "worker_crash")]]))
    assert run.steps[-1].node == "isolation"
    assert run.rows == run.kept + run.dropped + run.failed


def test_a_unit_whose_sums_are_wrong_is_named(tmp_path: Path) -> None:
    layout = write_run(tmp_path, [synthetic_rows(4), synthetic_rows(4, first=50)])
    _edit(layout.unit("000001"), rows=7)
    assert collect(layout).unbalanced == (1,)


def test_a_run_without_a_committed_unit_is_all_zeros(tmp_path: Path) -> None:
    run = collect(write_run(tmp_path, [], planned=3))
    assert (run.rows, run.kept, run.dropped, run.failed, run.seconds) == (0, 0, 0, 0, 0.0)
    assert run.finished_at is None
    assert {step.records_in for step in run.steps} == {0}


def test_the_time_of_a_run_ends_with_its_latest_commit(tmp_path: Path) -> None:
    assert collect(write_run(tmp_path, [synthetic_rows(1)] * 3)).seconds == 2 * 60 + 30


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match=r"holds no run .*; give the folder that a run or pack wrote$"):
        collect(Layout(tmp_path))


def test_a_folder_beside_the_run_is_refused_with_the_run_s_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "sides" / "train", [synthetic_rows(1)])
    for wrong in (run.root.parent, run.root / "shards", run.run):
        with pytest.raises(ResumeError, match=f"holds no run .* wrote: {re.escape(str(run.root))}$"):
            collect(Layout(wrong))


def test_what_a_newer_version_wrote_is_refused(tmp_path: Path) -> None:
    layout = write_run(tmp_path, [synthetic_rows(1)])
    _edit(layout.unit("000000"), schema_version=SCHEMA_VERSION + 1)
    with pytest.raises(SchemaVersionError, match="update Inlay"):
        collect(layout)


@given(st.integers(0, 10_000), st.integers(0, 200))
@settings(deadline=None, max_examples=100)
def test_a_spread_is_even_and_without_repeats(count: int, wanted: int) -> None:
    positions = spread(count, wanted)
    assert len(positions) == min(count, wanted)
    assert positions == sorted(set(positions))
    assert all(0 <= position < count for position in positions)
    gaps = [after - before for before, after in pairwise(positions)]
    assert not gaps or max(gaps) - min(gaps) <= 1


@given(st.lists(st.integers(0, 9), max_size=20), st.data())
@settings(deadline=None, max_examples=100)
def test_a_place_leads_back_to_its_position(counts: list[int], data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.integers(0, max(sum(counts) - 1, 0)))) if sum(counts) else set()
    starts = [0, *accumulate(counts)]
    placed = place(counts, sorted(chosen))
    assert [starts[part] + position for part, inside in placed.items() for position in inside] == sorted(chosen)
    assert all(position < counts[part] for part, inside in placed.items() for position in inside)
