from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import Box, Mask, Picture, Span, Subject
from stages.base import Context
from stages.geometry import pixel_hull
from stages.masks import BoolArray, decode_mask, encode_mask
from stages.pixels import resize, write_jpeg
from stages.segment import Segment, SegmentIn, SegmentOut, SegmentParams
from tests.strategies import boxes

HEIGHT, WIDTH = 90, 120


def disc(y: float, x: float, radius: float) -> BoolArray:
    ys, xs = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return np.asarray(np.hypot(ys - y, xs - x) < radius, np.bool_)


def photo(subject: BoolArray, seed: int = 0) -> Picture:
    """A reddish subject on a bluish ground, both with noise."""
    noise = np.random.default_rng(seed).integers(-25, 26, (HEIGHT, WIDTH, 3))
    colours = np.where(subject[:, :, None], (200, 60, 50), (50, 80, 190))
    return write_jpeg(np.clip(colours + noise, 0, 255).astype(np.uint8))


def clutter(seed: int) -> Picture:
    """Patches of many colours, on which GrabCut's outcome hangs on where its clustering starts."""
    patches = np.random.default_rng(seed).integers(0, 256, (HEIGHT // 10, WIDTH // 10, 3)).astype(np.uint8)
    return write_jpeg(resize(patches, WIDTH, HEIGHT))


def subject(box: Box, mask: Mask | None = None) -> Subject:
    return Subject(
        phrase="ball", span=Span(start=0, end=4), head="ball", head_span=Span(start=0, end=4), box=box, mask=mask
    )


def record(image: Picture, *subjects: Subject, key: str = "k") -> SegmentIn:
    return SegmentIn(key=key, image=image, subjects=subjects, dropped_subjects=())


def run(stage: Segment, *records: SegmentIn) -> list[SegmentOut]:
    outs = stage.process(records)
    assert all(isinstance(out, SegmentOut) for out in outs)
    return outs  # type: ignore[return-value]


def mask_of(out: SegmentOut, number: int = 0) -> BoolArray:
    mask = out.subjects[number].mask
    assert mask is not None
    return decode_mask(mask)


@pytest.fixture(scope="module")
def stage() -> Segment:
    return Segment.load(SegmentParams(), Context(seed=7))


BALL = disc(45, 60, 25)
BALL_BOX = Box(x0=34, y0=19, x1=86, y1=71)
FLAT = write_jpeg(np.full((HEIGHT, WIDTH, 3), 128, np.uint8))


def iou(a: BoolArray, b: BoolArray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_plain_subject_is_cut_along_its_edge(stage: Segment) -> None:
    (out,) = run(stage, record(photo(BALL), subject(BALL_BOX)))
    assert iou(mask_of(out), BALL) > 0.95


def test_a_large_image_gives_a_mask_of_its_own_size(stage: Segment) -> None:
    large = Segment.load(SegmentParams(side=64), Context())
    (out,) = run(large, record(photo(BALL), subject(BALL_BOX)))
    assert mask_of(out).shape == (HEIGHT, WIDTH)
    assert iou(mask_of(out), BALL) > 0.9


def test_each_subject_gets_the_mask_of_its_own_box(stage: Segment) -> None:
    both = disc(45, 30, 20) | disc(45, 90, 20)
    left, right = Box(x0=9, y0=24, x1=51, y1=66), Box(x0=69, y0=24, x1=111, y1=66)
    (out,) = run(stage, record(photo(both), subject(left), subject(right)))
    assert iou(mask_of(out, 0), disc(45, 30, 20)) > 0.9
    assert iou(mask_of(out, 1), disc(45, 90, 20)) > 0.9


@settings(deadline=None, max_examples=30)
@given(boxes(WIDTH, HEIGHT, spill=5, least=6), st.integers(0, 5))
def test_a_mask_lies_in_its_box_and_has_pixels(box: Box, seed: int) -> None:
    stage = Segment.load(SegmentParams(side=32), Context(seed=seed))
    (out,) = run(stage, record(photo(BALL, seed) if seed else FLAT, subject(box)))
    for kept in out.subjects:
        mask = mask_of(out)
        hull = pixel_hull(box, WIDTH, HEIGHT)
        assert mask.any() and mask[hull.slices].sum() == mask.sum()
        assert kept.box == box
    assert len(out.subjects) + len(out.dropped_subjects) == 1


@pytest.mark.parametrize("inset", [0.3, 1, 1.7, 2.5])
def test_a_subject_that_goes_on_outside_its_box_is_cut_at_the_box(inset: float) -> None:
    bar = np.zeros((HEIGHT, WIDTH), np.bool_)
    bar[20:70, 20:100] = True
    box = Box(x0=20 + inset, y0=20 + inset, x1=100 - inset, y1=70 - inset)
    stage = Segment.load(SegmentParams(side=32), Context())
    mask = mask_of(run(stage, record(photo(bar), subject(box)))[0])
    hull = pixel_hull(box, WIDTH, HEIGHT)
    assert mask[hull.slices].mean() > 0.9
    assert mask.sum() == mask[hull.slices].sum()


def test_results_depend_on_no_other_record(stage: Segment) -> None:
    records = [record(clutter(seed), subject(BALL_BOX), key=f"k{seed}") for seed in range(6)]
    together = run(stage, *records)
    fresh = Segment.load(SegmentParams(), Context(seed=7))
    assert [run(fresh, one)[0] for one in reversed(records)] == together[::-1]


def test_a_flat_picture_gives_a_mask_at_least_of_the_core(stage: Segment) -> None:
    (out,) = run(stage, record(FLAT, subject(BALL_BOX)))
    assert mask_of(out)[disc(45, 60, 11)].all()


def test_a_box_of_the_whole_picture_is_cut_too(stage: Segment) -> None:
    large = disc(45, 60, 44)
    (out,) = run(stage, record(photo(large), subject(Box(x0=0, y0=0, x1=WIDTH, y1=HEIGHT))))
    assert iou(mask_of(out), large) > 0.9


def test_a_mask_that_is_there_stays_unless_overwritten(stage: Segment) -> None:
    given_mask = encode_mask(disc(45, 60, 5))
    read = record(photo(BALL), subject(BALL_BOX, given_mask))
    assert run(stage, read)[0].subjects == read.subjects
    anew = Segment.load(SegmentParams(overwrite=True), Context())
    assert iou(mask_of(run(anew, read)[0]), BALL) > 0.95


def test_subjects_without_a_pixel_are_dropped_by_name(stage: Segment) -> None:
    empty = encode_mask(np.zeros((HEIGHT, WIDTH), np.bool_))
    sliver = Box(x0=10, y0=10, x1=10.2, y1=10.2)
    (out,) = run(stage, record(photo(BALL), subject(BALL_BOX, empty), subject(BALL_BOX), subject(sliver)))
    assert len(out.subjects) == 1
    assert [(d.phrase, d.stage, d.reason) for d in out.dropped_subjects] == [("ball", "segment", "empty_mask")] * 2


def test_a_hole_is_filled_if_it_is_small_enough() -> None:
    read = record(photo(disc(45, 60, 25) & ~disc(45, 78, 5)), subject(BALL_BOX))
    hole = disc(45, 78, 3)
    filled = Segment.load(SegmentParams(max_hole=0.1), Context())
    assert mask_of(run(filled, read)[0])[hole].all()
    left = Segment.load(SegmentParams(max_hole=0), Context())
    assert not mask_of(run(left, read)[0])[hole].any()


def test_the_key_and_the_seed_decide_the_cut_where_the_picture_does_not() -> None:
    read = record(clutter(3), subject(BALL_BOX))
    stages = [Segment.load(SegmentParams(), Context(seed=seed)) for seed in range(8)]
    assert len({run(stage, read)[0].subjects for stage in stages}) > 1
    assert len({run(stages[0], replace(read, key=f"k{n}"))[0].subjects for n in range(8)}) > 1
