from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import Box, DroppedSubject, Mask, Picture, Span, Subject
from stages.base import Context, Fail
from stages.crop import Crop, CropIn, CropOut, CropParams
from stages.cutting import soft_mask
from stages.geometry import pixel_hull
from stages.masks import BoolArray, decode_mask, encode_mask, pixels_box
from stages.pixels import Pixels, read_picture, resize, write_png
from tests.strategies import boxes, masks

WIDTH, HEIGHT = 60, 40
SCALE = 4
examples = settings(deadline=None, max_examples=50)


def stage(**params: Any) -> Crop:
    return Crop.load(CropParams(**{"min_side": 1, **params}), Context())


def plain(red: int, green: int, blue: int) -> Pixels:
    """An original of one colour, ``SCALE`` times the image's size."""
    return np.full((SCALE * HEIGHT, SCALE * WIDTH, 3), (red, green, blue), np.uint8)


def record(original: Pixels, *subjects: Subject) -> CropIn:
    height, width = original.shape[:2]
    return CropIn(
        original=write_png(original).data,
        original_width=width,
        original_height=height,
        image=write_png(resize(original, WIDTH, HEIGHT)),
        subjects=subjects,
        dropped_subjects=(),
    )


def subject(box: Box, mask: Mask | None = None) -> Subject:
    span = Span(start=0, end=3)
    return Subject(phrase="dog", span=span, head="dog", head_span=span, box=box, mask=mask)


def box_of(x0: float, y0: float, x1: float, y1: float) -> Box:
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)


def crop_of(made: object) -> Picture:
    assert isinstance(made, CropOut)
    (kept,) = made.subjects
    assert kept.crop is not None
    return kept.crop


def rectangle(x0: int, y0: int, x1: int, y1: int) -> BoolArray:
    array = np.zeros((HEIGHT, WIDTH), np.bool_)
    array[y0:y1, x0:x1] = True
    return array


def test_a_box_is_cut_at_the_originals_resolution() -> None:
    original = plain(20, 90, 160)
    original[40:120, 80:200] = (200, 120, 40)
    (out,) = stage(style="box").process([record(original, subject(box_of(20, 10, 50, 30)))])
    crop = crop_of(out)
    assert (crop.format, crop.width, crop.height) == ("jpg", 120, 80)
    assert np.abs(read_picture(crop).astype(int) - (200, 120, 40)).max() <= 3


@examples
@given(boxes(WIDTH, HEIGHT, least=0.5), st.sampled_from([16, 50, 1024]), st.floats(0, 1))
def test_a_crop_has_its_boxs_shape_and_is_never_enlarged(box: Box, max_side: int, margin: float) -> None:
    read = record(plain(1, 2, 3), subject(box))
    (out,) = stage(style="box", max_side=max_side, margin=margin).process([read])
    crop = crop_of(out)
    x, y = margin * (box.x1 - box.x0), margin * (box.y1 - box.y0)
    window = pixel_hull(
        box_of(*(SCALE * side for side in (box.x0 - x, box.y0 - y, box.x1 + x, box.y1 + y))),
        SCALE * WIDTH,
        SCALE * HEIGHT,
    )
    shrink = min(1, max_side / max(window.width, window.height))
    assert abs(crop.width - window.width * shrink) <= 1 and abs(crop.height - window.height * shrink) <= 1
    assert max(crop.width, crop.height) <= max_side


@examples
@given(masks(HEIGHT, WIDTH))
def test_a_crop_contains_its_mask(mask: Mask) -> None:
    box = pixels_box(decode_mask(mask))
    if box is None:
        return
    (out,) = stage(fill=(0, 0, 0), jpeg_quality=100).process([record(plain(255, 255, 255), subject(box, mask))])
    shown = read_picture(crop_of(out)).astype(int).sum() / (3 * 255)
    everywhere = soft_mask(mask, SCALE * HEIGHT, SCALE * WIDTH).sum(dtype=np.int64) / 255
    x0, y0, x1, y1 = (round(SCALE * side) for side in box.xyxy)
    # Half a pixel of the image's blends out over the box where the mask touches it.
    assert everywhere - SCALE * (x1 - x0 + y1 - y0 + 4) <= shown * 1.02 + 1
    assert shown <= everywhere * 1.02 + 1


def test_around_a_segmented_subject_is_only_fill() -> None:
    mask = encode_mask(rectangle(20, 10, 40, 30))
    read = record(plain(10, 200, 30), subject(box_of(10, 5, 50, 35), mask))
    (out,) = stage(fill=(250, 0, 250), jpeg_quality=100).process([read])
    shown = read_picture(crop_of(out)).astype(int)
    assert np.abs(shown[24:96, 44:116] - (10, 200, 30)).max() <= 6
    shown[12:108, 32:128] = (250, 0, 250)
    assert np.abs(shown - (250, 0, 250)).max() <= 6


def test_a_missing_mask_fails_with_the_remedy_and_boxes_need_none() -> None:
    read = record(plain(1, 2, 3), subject(box_of(0, 0, 20, 20)))
    (failed,) = stage().process([read])
    assert isinstance(failed, Fail) and failed.reason == "no_mask"
    assert "'dog'" in failed.message and "segment" in failed.message
    assert crop_of(stage(style="box").process([read])[0]).width == 80


def test_small_crops_drop_their_subject_and_are_measured_in_the_original() -> None:
    small, fits = subject(box_of(0, 0, 20, 7)), subject(box_of(0, 0, 20, 8))
    (out,) = stage(style="box", min_side=32).process([record(plain(1, 2, 3), small, fits)])
    assert isinstance(out, CropOut)
    assert [s.box for s in out.subjects] == [fits.box]
    assert out.dropped_subjects == (DroppedSubject(phrase="dog", stage="crop", reason="crop_too_small"),)


def test_crops_are_the_same_bytes_in_any_batch() -> None:
    mask = encode_mask(rectangle(3, 4, 30, 39))
    reads = [record(plain(n, 2, 3), subject(box_of(3, 4, 30 + n, 39), mask)) for n in range(3)]
    assert stage().process(reads) == [stage().process([read])[0] for read in reads]


@pytest.mark.parametrize("fill", [(0, 0, 256), (0, 0), "white"])
def test_a_fill_that_is_no_colour_is_refused(fill: Any) -> None:
    with pytest.raises(ValueError):
        CropParams(fill=fill)


def test_a_mask_without_a_pixel_drops_its_subject_and_boxes_do_not_heed_it() -> None:
    seen, gone = subject(box_of(0, 0, 20, 20), encode_mask(rectangle(2, 2, 9, 9))), subject(box_of(20, 0, 40, 20))
    gone = replace(gone, mask=encode_mask(np.zeros((HEIGHT, WIDTH), np.bool_)))
    (out,) = stage().process([record(plain(0, 0, 0), seen, gone)])
    assert isinstance(out, CropOut) and [kept.box for kept in out.subjects] == [seen.box]
    assert out.dropped_subjects == (DroppedSubject(phrase="dog", stage="crop", reason="empty_mask"),)
    (out,) = stage(style="box").process([record(plain(0, 0, 0), seen, gone)])
    assert isinstance(out, CropOut) and len(out.subjects) == 2
