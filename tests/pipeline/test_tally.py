"""What a step did to a unit is counted exactly, and taken out with it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from manifests.record import Record, Row, Verdict
from manifests.shard import BATCH_SECONDS
from pipeline.tally import Tally
from pipeline.totals import StepTotals


def rows(*sizes: int | None) -> list[Row]:
    """A row for each size of its file; ``None``: rejected."""
    records = [Record(key=str(i), source="s", row=i, original=bytes(size or 0)) for i, size in enumerate(sizes)]
    verdict = Verdict(kind="failed", node="fetch", reason="dns")
    return [Row(record=record, verdict=None if size is not None else verdict) for record, size in zip(records, sizes)]


def test_records_seconds_batches_and_bytes_add_up_and_start_anew() -> None:
    tally = Tally("fetch", is_download=True)
    tally.add(3, rows(10, None, 5), 0.3)
    tally.add(2, rows(1, 1), 0.02)
    count = tally.take()
    assert (count.records_in, count.records_out, count.downloaded) == (5, 4, 17)
    assert count.seconds == 0.32
    assert count.batches[BATCH_SECONDS.index(0.5)] == count.batches[BATCH_SECONDS.index(0.025)] == 1
    assert sum(count.batches) == 2 and count.batches[-1] == 1
    assert tally.take().batches == () and tally.take().records_in == 0


def test_only_what_fetches_counts_its_files() -> None:
    tally = Tally("decode", is_download=False)
    tally.add(1, rows(10), 0.1)
    assert tally.take().downloaded == 0


def test_a_batch_of_no_living_records_is_none() -> None:
    tally = Tally("fetch", is_download=True)
    tally.add(0, rows(None, None), 0.1)
    assert tally.take().batches == ()


@given(st.lists(st.floats(0, 1000), min_size=1))
def test_every_batch_is_in_one_class_and_quantiles_are_within_one_class(durations: list[float]) -> None:
    tally = Tally("fetch", is_download=False)
    for seconds in durations:
        tally.add(1, rows(0), seconds)
    count = tally.take()
    assert sum(count.batches) == len(durations)
    totals = StepTotals()
    totals.add(count)
    bounds = (0.0, *BATCH_SECONDS)
    for quantile in (0.1, 0.5, 0.95, 1.0):
        guess = totals.batch_seconds(quantile)
        at_least = sorted(durations)[max(0, -(-int(quantile * 1000) * len(durations) // 1000) - 1)]
        assert guess is not None
        if at_least <= BATCH_SECONDS[-1]:
            low = max(bound for bound in bounds if bound < at_least or bound == 0)
            high = min(bound for bound in BATCH_SECONDS if bound >= at_least)
            assert low <= guess <= high


def test_without_batches_there_is_no_quantile() -> None:
    assert StepTotals().batch_seconds(0.5) is None
    assert Counter(StepTotals().batches) == {0: len(BATCH_SECONDS) + 1}
