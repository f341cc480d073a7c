from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report.collect import collect
from pipeline.report.survey import bins, distributions, quantile
from tests.pipeline.report.fixture import BUCKETS, synthetic_rows, write_run

COUNTS = st.dictionaries(st.integers(0, 100_000), st.integers(1, 1000), min_size=1, max_size=60).map(Counter)


def test_counts_agree_with_the_records(tmp_path: Path) -> None:
    units = [synthetic_rows(30), synthetic_rows(13, first=100)]
    records = [row.record for rows in units for row in rows if row.verdict is None]
    subjects = [subject for record in records for subject in record.subjects or ()]
    survey = collect(write_run(tmp_path, units)).survey
    assert survey.subjects == Counter(len(record.subjects or ()) for record in records)
    assert survey.heads == Counter(subject.head for subject in subjects)
    assert survey.words == Counter(len((record.caption or "").split()) for record in records)
    assert survey.insertions == Counter(
        part.insertion for record in records if record.prompt for part in record.prompt.images
    )
    assert survey.lost_phrases == {("phrases", "relational"): 43}
    assert survey.sides == {64: 43}
    assert survey.original_sides == {640: 43}
    assert survey.crop_sides.total() == len(subjects)
    assert survey.buckets == {1.5: 43}


def test_distributions_show_every_bucket_and_leave_out_what_was_never_seen(tmp_path: Path) -> None:
    survey = collect(write_run(tmp_path, [synthetic_rows(1, insertion="replace")])).survey
    shown = {chart.title: chart for chart in distributions(survey, BUCKETS)}
    assert [(bar.label, bar.count) for bar in shown["Aspect buckets"].bars] == [
        ("0.5", 0),
        ("0.75", 0),
        ("1", 0),
        ("1.5", 1),
        ("2", 0),
    ]
    assert "Crop size" not in shown
    assert "Unique subjects" not in shown


@given(COUNTS)
@settings(deadline=None, max_examples=100)
def test_bins_lose_nothing_and_stay_few(counts: Counter[int]) -> None:
    bars = list(bins(counts))
    assert sum(bar.count for bar in bars) == counts.total()
    assert 1 <= len(bars) <= 12


def test_bins_are_round_and_the_last_is_open_for_what_lies_far_out() -> None:
    counts = Counter({7: 100, 23: 100, 41: 100, 9_000: 1})
    assert [(bar.label, bar.count) for bar in bins(counts)] == [
        ("5–9", 100),
        ("10–14", 0),
        ("15–19", 0),
        ("20–24", 100),
        ("25–29", 0),
        ("30–34", 0),
        ("35–39", 0),
        ("≥ 40", 101),
    ]


@given(COUNTS, st.floats(0.01, 1))
@settings(deadline=None, max_examples=100)
def test_a_quantile_splits_the_counts(counts: Counter[int], share: float) -> None:
    value = quantile(counts, share)
    below = sum(count for number, count in counts.items() if number < value)
    assert below < share * counts.total() <= below + counts[value] + 1e-6
