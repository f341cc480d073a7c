from pathlib import Path

from manifests.record import to_plain
from pipeline.report.collect import choose, collect
from pipeline.report.samples import read_samples, sides
from tests.pipeline.report.fixture import BUCKETS, synthetic_record, synthetic_rows, write_run


def test_samples_are_those_chosen_and_in_order(tmp_path: Path) -> None:
    layout = write_run(tmp_path, [synthetic_rows(30), [], synthetic_rows(10, first=100)])
    units = collect(layout).units
    everything = [view.row for view in read_samples(layout, choose(units, 99), sides(99), BUCKETS)]
    assert everything == [*range(30), *range(100, 110)]
    few = [view.row for view in read_samples(layout, choose(units, 8), sides(8), BUCKETS)]
    assert few == everything[2::5]


def test_a_sample_says_what_its_record_says(tmp_path: Path) -> None:
    layout = write_run(tmp_path, [synthetic_rows(4)])
    views = list(read_samples(layout, {"000000": [3]}, sides(1), BUCKETS))
    record = synthetic_record(3, "side")
    assert len(views) == 1
    view = views[0]
    assert record.subjects is not None and record.prompt is not None
    assert (view.key, view.caption, view.url, view.sha256) == (record.key, record.caption, record.url, record.sha256)
    assert list(view.prompt) == record.prompt.to_plain()
    assert view.rendered == record.prompt.render()
    assert (view.shard, view.bucket) == ("000000", 1.5)
    assert view.original == {"width": 960, "height": 640}
    assert [subject.phrase for subject in view.subjects] == [subject.phrase for subject in record.subjects]
    assert all(subject.outline.startswith("M") and subject.crop for subject in view.subjects)
    assert to_plain(view)["dropped"] == [{"phrase": "ground", "stage": "phrases", "reason": "relational"}]


def test_more_samples_get_smaller_pictures() -> None:
    few, some, many = (sides(samples) for samples in (100, 1000, 10_000))
    assert few.image > some.image > many.image
