from dataclasses import replace
from pathlib import Path

from manifests.record import Box, Face, ModelUse, Region, Row, Score, to_plain
from pipeline.report.collect import choose, collect
from pipeline.report.samples import read_samples, sides
from tests.pipeline.report.fixture import BUCKETS, shape_mask, synthetic_record, synthetic_rows, write_run


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


def test_faces_regions_and_scores_are_shown_by_their_names_in_prompts(tmp_path: Path) -> None:
    record = synthetic_record(1, "side")
    assert record.image
    box, mask = Box(x0=1, y0=2, x1=30, y1=40), shape_mask(0)
    whole = replace(
        record,
        faces=(Face(box=box, score=0.9, crop=record.image), Face(box=box, score=0.8)),
        regions=(Region(kind="object", box=box, mask=mask, crop=record.image),),
        scores=(Score(name="clip_score", value=0.7, model=ModelUse(name="a/b", revision="c")),),
    )
    layout = write_run(tmp_path, [[Row(record=whole)]])
    (view,) = read_samples(layout, {"000000": [0]}, sides(1), BUCKETS)
    assert [(part.member, part.score, part.crop is not None) for part in view.parts] == [
        ("face0", 0.9, True),
        ("face1", 0.8, False),
        ("region0", None, True),
    ]
    assert view.parts[2].outline.startswith("M") and view.parts[2].label == "object region 0"
    assert view.scores["clip_score"] == 0.7 and view.scores["aesthetic (metadata)"] == record.aesthetic


def test_more_samples_get_smaller_pictures() -> None:
    few, some, many = (sides(samples) for samples in (100, 1000, 10_000))
    assert few.image > some.image > many.image
