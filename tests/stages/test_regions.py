from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from manifests.record import Box, Mask, Region, Span, Subject
from stages.base import Context, Drop, Fail
from stages.geometry import area_share, aspect
from stages.masks import decode_mask, encode_mask, pixels_box
from stages.pixels import Pixels, read_picture, resize, write_png
from stages.regions import Regions, RegionsIn, RegionsOut, RegionsParams

WIDTH, HEIGHT, SCALE = 90, 60, 3


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (SCALE * height, SCALE * width, 3), np.uint8)


def record(original: Pixels, *subjects: Subject, key: str = "k", regions: tuple[Region, ...] = ()) -> RegionsIn:
    height, width = original.shape[:2]
    return RegionsIn(
        key=key,
        original=write_png(original).data,
        original_width=width,
        original_height=height,
        image=write_png(resize(original, max(1, width // SCALE), max(1, height // SCALE))),
        subjects=subjects or None,
        regions=regions,
    )


def subject(mask: Mask | None) -> Subject:
    span = Span(start=0, end=3)
    return Subject(phrase="dog", span=span, head="dog", head_span=span, mask=mask)


def disc(y: int, x: int, radius: int) -> Mask:
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    return encode_mask(np.hypot(ys - y, xs - x) <= radius)


def stage(seed: int = 0, **params: Any) -> Regions:
    return Regions.load(RegionsParams(**params), Context(seed=seed))


def regions(out: object) -> tuple[Region, ...]:
    assert isinstance(out, RegionsOut)
    return out.regions


def test_random_regions_are_as_many_and_as_large_as_wanted_and_cut_from_the_original() -> None:
    original = picture(0)
    (out,) = stage(count=6, area=(0.05, 0.2), aspect=(0.8, 1.25), jpeg_quality=100).process([record(original)])
    found = regions(out)
    assert len(found) == 6 and len({region.box for region in found}) == 6
    for region in found:
        assert region.kind == "random" and region.mask is None and region.crop
        assert 0.05 - 1e-6 <= area_share(region.box, WIDTH, HEIGHT) <= 0.2 + 1e-6
        assert 0.8 - 1e-6 <= aspect(region.box) <= 1.25 + 1e-6
        x0, y0 = (int(SCALE * side) for side in region.box.xyxy[:2])
        crop = read_picture(region.crop).astype(int)
        assert np.abs(crop.shape[1] - SCALE * (region.box.x1 - region.box.x0)) < 2
        there = original[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]].astype(int)
        assert np.abs(crop - there).mean() < 4, "JPEG's loss, on noise"


def test_regions_depend_on_key_and_seed_alone() -> None:
    objects = [subject(disc(30, 45, 12))]
    for kind in ("random", "object"):
        records = [record(picture(n), *objects, key=f"k{n}") for n in range(4)]
        together = stage(kind=kind).process(records)
        assert [stage(kind=kind).process([one])[0] for one in reversed(records)] == together[::-1]
        assert len({regions(out) for out in together}) == 4
        assert stage(1, kind=kind).process(records) != together


def test_an_object_is_marked_several_times_and_never_cut_short() -> None:
    central, corner = disc(30, 45, 10), disc(3, 3, 8)
    read = record(picture(1), subject(corner), subject(central), subject(None))
    found = regions(stage(kind="object", count=24, spread=0.5, crop=False).process([read])[0])
    assert len(found) == 24 and len(set(found)) > 16, "margins below a pixel are alike"
    pixels = decode_mask(central)
    hull = pixels_box(pixels)
    assert hull
    for region in found:
        assert region.kind == "object" and region.crop is None
        assert region.box.x0 <= hull.x0 and region.box.y1 >= hull.y1
        assert region.box.x0 >= hull.x0 - 0.5 * 21 - 1 and region.box.x1 <= hull.x1 + 0.5 * 21 + 1
        if region.mask:
            marked = decode_mask(region.mask)
            assert (marked | ~pixels).all() and pixels_box(marked) == region.box
    boxed = sum(region.mask is None for region in found)
    assert 0 < boxed < 24
    for share, expected in [(0.0, 0), (1.0, 4)]:
        out = stage(kind="object", box_share=share, crop=False).process([read])[0]
        assert sum(region.mask is None for region in regions(out)) == expected


def test_an_objects_crop_shows_what_its_mask_holds_and_fill_around_it() -> None:
    original = np.full((SCALE * HEIGHT, SCALE * WIDTH, 3), (10, 200, 30), np.uint8)
    read = record(original, subject(disc(30, 45, 12)))
    params = {"kind": "object", "count": 1, "box_share": 0, "spread": 0, "fill": (250, 0, 250), "jpeg_quality": 100}
    (region,) = regions(stage(**params).process([read])[0])
    assert region.crop and (region.crop.width, region.crop.height) == (75, 75)
    crop = read_picture(region.crop).astype(int)
    assert np.abs(crop[37, 37] - (10, 200, 30)).max() <= 6 and np.abs(crop[2, 2] - (250, 0, 250)).max() <= 6


def test_one_kind_is_made_anew_and_the_other_stays() -> None:
    box = Box(x0=1, y0=1, x1=9, y1=9)
    old = (Region(kind="random", box=box), Region(kind="object", box=box))
    found = regions(stage(count=2, crop=False).process([record(picture(2), regions=old)])[0])
    assert found[0] is old[1] and [region.kind for region in found] == ["object", "random", "random"]
    assert box not in [region.box for region in found[1:]]


def test_pictures_without_a_region_are_dropped_with_a_reason() -> None:
    thin = np.zeros((1, 400, 3), np.uint8)
    (dropped,) = stage().process([record(thin)])
    assert isinstance(dropped, Drop) and dropped.reason == "no_region_fits"
    empty = encode_mask(np.zeros((HEIGHT, WIDTH), np.bool_))
    without, none = stage(kind="object").process([record(picture(0), subject(empty)), record(picture(0))])
    assert isinstance(without, Drop) and without.reason == "no_object"
    assert isinstance(none, Fail) and none.reason == "no_subjects" and "segment" in none.message
    full = encode_mask(np.ones((HEIGHT, WIDTH), np.bool_))
    for region in regions(stage(kind="object").process([record(picture(0), subject(full))])[0]):
        assert region.box.xyxy == (0, 0, WIDTH, HEIGHT)


@pytest.mark.parametrize("params", [{"area": (0.5, 0.1)}, {"area": (0, 1)}, {"aspect": (2, 0.5)}, {"count": 0}])
def test_limits_that_make_no_sense_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RegionsParams(**params)
