import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from manifests.record import Mask
from stages.masks import (
    BoolArray,
    decode_mask,
    encode_mask,
    fill_holes,
    mask_area,
    mask_from_coco,
    mask_png,
    pixels_box,
    remove_specks,
    resize_mask,
)
from tests.strategies import bool_arrays, masks, sides

examples = settings(deadline=None, max_examples=100)


@examples
@given(bool_arrays())
def test_decoding_undoes_encoding(pixels: BoolArray) -> None:
    assert np.array_equal(decode_mask(encode_mask(pixels)), pixels)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools 2.0.11
@examples
@given(masks())
def test_our_reader_agrees_with_pycocotools(mask: Mask) -> None:
    theirs = coco.decode({"size": [mask.height, mask.width], "counts": mask.counts})
    assert np.array_equal(decode_mask(mask), theirs)


@pytest.mark.parametrize(("height", "width"), [(1200, 1100), (1, 40_000)])
def test_long_runs_are_read_as_they_were_written(height: int, width: int) -> None:
    pixels = np.zeros((height, width), np.bool_)
    pixels[:, width // 3 :] = True
    assert np.array_equal(decode_mask(encode_mask(pixels)), pixels)


@examples
@given(st.text(max_size=12) | st.text("0123456789:;<=>?@PQo`", max_size=12), sides, sides)
def test_counts_of_any_text_fill_the_mask_or_are_refused(counts: str, height: int, width: int) -> None:
    try:
        pixels = decode_mask(Mask(height=height, width=width, counts=counts))
    except ValueError:
        return
    assert pixels.shape == (height, width)


WRAPPING = "d0" + 2 * ("P" * 11 + "8") + 62 * "0"
"""Runs of 20 and of 64 times 2^58, whose sum in 64 bits is 20."""


@pytest.mark.parametrize(
    "counts",
    [WRAPPING, "", "0", "zz", "P", "4", "9220", "92203\n", "é", "5O5", "oooooooooooooo0", "ooooooooooo3ooooooooooo3"],
)
def test_damaged_counts_are_refused_by_name(counts: str) -> None:
    with pytest.raises(ValueError, match="a mask's"):
        decode_mask(Mask(height=4, width=5, counts=counts))


@examples
@given(bool_arrays())
def test_area_and_box_are_those_of_the_pixels(pixels: BoolArray) -> None:
    mask = encode_mask(pixels)
    assert mask_area(mask) == pixels.sum()
    box = pixels_box(pixels)
    if box is None:
        assert not pixels.any()
        return
    x0, y0, x1, y1 = map(int, box.xyxy)
    assert pixels[y0:y1, x0:x1].sum() == pixels.sum()
    assert pixels[y0].any() and pixels[y1 - 1].any() and pixels[:, x0].any() and pixels[:, x1 - 1].any()


@examples
@given(masks(), st.integers(1, 5))
def test_enlarging_by_a_whole_number_and_back_changes_nothing(mask: Mask, factor: int) -> None:
    large = resize_mask(mask, factor * mask.height, factor * mask.width)
    assert mask_area(large) == factor**2 * mask_area(mask)
    assert resize_mask(large, mask.height, mask.width) == mask


@examples
@given(masks(), sides, sides)
def test_a_resized_mask_stays_in_its_box_to_a_pixel(mask: Mask, height: int, width: int) -> None:
    resized = resize_mask(mask, height, width)
    assert (resized.height, resized.width) == (height, width)
    before, after = pixels_box(decode_mask(mask)), pixels_box(decode_mask(resized))
    if after is None:
        return
    assert before is not None
    assert after.x0 > before.x0 * width / mask.width - 1 and after.x1 < before.x1 * width / mask.width + 1
    assert after.y0 > before.y0 * height / mask.height - 1 and after.y1 < before.y1 * height / mask.height + 1


@examples
@given(masks())
def test_reading_undoes_writing_a_png(mask: Mask) -> None:
    with Image.open(io.BytesIO(mask_png(mask))) as image:
        assert encode_mask(np.asarray(image)) == mask


def test_the_png_has_one_bit_a_pixel_and_white_inside() -> None:
    pixels = np.zeros((3, 9), np.bool_)
    pixels[1, 2:8] = True
    data = mask_png(encode_mask(pixels))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.mode, image.size) == ("1", (9, 3))
        assert np.array_equal(np.asarray(image.convert("L")) == 255, pixels)
    assert data == mask_png(encode_mask(pixels))


@examples
@given(masks())
def test_all_of_cocos_run_lengths_are_read(mask: Mask) -> None:
    size = [mask.height, mask.width]
    flat = decode_mask(mask).T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flat)).astype(np.int8)))
    counts = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    for form in (mask.counts, counts):
        assert mask_from_coco({"size": size, "counts": form}, mask.height, mask.width) == mask


@examples
@given(st.lists(st.integers(0, 10), min_size=2, max_size=2, unique=True).map(sorted))
def test_a_rectangles_polygon_covers_its_pixels(xs: list[int]) -> None:
    x0, x1 = xs
    mask = mask_from_coco([[x0, 2, x1, 2, x1, 7, x0, 7]], 10, 12)
    box = pixels_box(decode_mask(mask))
    assert box is not None and box.xyxy == (x0, 2, x1, 7)
    assert mask_area(mask) == 5 * (x1 - x0)


def test_polygons_are_merged_and_those_without_area_add_nothing() -> None:
    left, right = [0, 0, 2, 0, 2, 4, 0, 4], [4, 0, 6, 0, 6, 4, 4, 4]
    assert mask_area(mask_from_coco([left, right, left], 4, 8)) == 16
    assert mask_area(mask_from_coco([left, [4, 0, 6, 4], [], [1, 1]], 4, 8)) == 8
    assert mask_area(mask_from_coco([], 4, 8)) == 0


def test_a_polygon_far_outside_ends_at_the_edge() -> None:
    assert mask_area(mask_from_coco([[-1e9, -1e9, 1e9, -1e9, 1e9, 1e9, -1e9, 1e9]], 4, 8)) == 32


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, 1, 0, 1]], "a polygon is pairs"),
        ([[0, 0, 1, 0, 1, float("nan")]], "a polygon is pairs"),
        ([[[0, 0], [1, 0], [1, 1]]], "a polygon is pairs"),
        ({"size": [4, 5], "counts": [3, 4]}, "add up to 7"),
        ({"size": [4, 5], "counts": [-1, 21]}, "add up to 20"),
        ({"size": [4, 5], "counts": "4"}, "add up to 4"),
        ({"size": [5, 4], "counts": [20]}, r"are for \[5, 4\]"),
    ],
)
def test_annotations_that_are_no_mask_are_refused(segmentation: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mask_from_coco(segmentation, 4, 5)


def drawn(*rows: str) -> BoolArray:
    return np.array([[c == "#" for c in row] for row in rows])


def test_specks_are_pieces_smaller_than_a_share_of_the_largest() -> None:
    pixels = drawn("####.#", "####..", "...#..", "#...##")
    assert np.array_equal(remove_specks(pixels, 0.12), drawn("####..", "####..", "...#..", "....##"))
    assert np.array_equal(remove_specks(pixels, 0.5), drawn("####..", "####..", "...#..", "....##"))
    assert np.array_equal(remove_specks(pixels, 0), pixels)


def test_holes_are_gaps_that_reach_no_edge() -> None:
    pixels = drawn("#####.", "#.#..#", "#####.", "##.###")
    assert np.array_equal(fill_holes(pixels, 0.1), drawn("#####.", "###..#", "#####.", "##.###"))
    assert np.array_equal(fill_holes(pixels, 0.2), drawn("#####.", "######", "#####.", "##.###"))
    assert np.array_equal(fill_holes(pixels, 0), pixels)


@examples
@given(bool_arrays(), st.floats(0, 1))
def test_removing_specks_and_filling_holes_only_do_that_and_once(pixels: BoolArray, share: float) -> None:
    without, filled = remove_specks(pixels, share), fill_holes(pixels, share)
    assert (without <= pixels).all() and (filled >= pixels).all()
    assert without.any() == pixels.any() and filled.any() == pixels.any()
    assert np.array_equal(remove_specks(without, share), without)
