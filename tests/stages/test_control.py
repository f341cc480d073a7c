from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from manifests.record import Control, Picture
from stages.base import Context, Fail
from stages.canny import canny
from stages.control import ControlIn, ControlOut, ControlParams, MakeControl
from stages.pixels import Gray, Pixels, read_picture, write_png
from stages.sketch import dodge_sketch
from tests.stages.models.tiny_depth import save

SIDE = 64


def drawing() -> Pixels:
    """A bright square on a dark ground, and a faint one in it."""
    pixels = np.full((SIDE, SIDE, 3), 40, np.uint8)
    pixels[16:48, 16:48] = 200
    pixels[28:36, 28:36] = 225
    return pixels


def record(key: str = "k", *controls: Control, image: Pixels | None = None) -> ControlIn:
    return ControlIn(key=key, image=write_png(drawing() if image is None else image), controls=controls)


def make(seed: int = 0, **params: Any) -> MakeControl:
    return MakeControl.load(ControlParams(**params), Context(seed=seed))


def edges(out: object) -> Picture:
    assert isinstance(out, ControlOut)
    return out.controls[-1].picture


def test_the_canny_picture_is_white_on_edges_and_black_elsewhere() -> None:
    picture = edges(make(low=100, high=200).process([record()])[0])
    assert (picture.format, picture.width, picture.height) == ("png", SIDE, SIDE)
    pixels = read_picture(picture)
    assert set(np.unique(pixels)) == {0, 255}
    assert np.array_equal(pixels[:, :, 0], canny(drawing(), 100, 200))
    assert pixels[14:18, 24:40].any(axis=0).all(), "the square's upper edge"
    assert not pixels[:12].any() and not pixels[20:26, 20:44].any()


def test_lower_thresholds_find_fainter_edges() -> None:
    faint = (slice(26, 38), slice(26, 38))
    assert not canny(drawing(), 150, 300)[faint].any()
    assert canny(drawing(), 20, 60)[faint].any()


def test_thresholds_are_drawn_by_key_and_seed_alone() -> None:
    gradient = np.tile(np.linspace(0, 255, SIDE), (SIDE, 1)) * np.linspace(0, 1, SIDE)[:, None]
    noise = np.random.default_rng(0).integers(0, 60, (SIDE, SIDE))
    image = write_png(np.clip(gradient + noise, 0, 255).astype(np.uint8)[:, :, None].repeat(3, axis=2))
    reads = [ControlIn(key=f"k{n}", image=image, controls=()) for n in range(6)]
    pictures = [edges(out) for out in make().process(reads)]
    assert len(set(pictures)) > 1
    assert [edges(make().process([read])[0]) for read in reads] == pictures
    assert [edges(out) for out in make(seed=1).process(reads)] != pictures
    fixed = [edges(out) for out in make(low=100, high=200).process(reads)]
    assert len(set(fixed)) == 1


def test_one_of_a_kind_is_kept_and_other_kinds_stay() -> None:
    old = write_png(np.zeros((SIDE, SIDE), np.uint8))
    depth, stale = Control(kind="depth", picture=old), Control(kind="canny", picture=old)
    (out,) = make().process([record("k", stale, depth)])
    assert isinstance(out, ControlOut)
    assert [control.kind for control in out.controls] == ["depth", "canny"]
    assert out.controls[0] is depth and out.controls[1].picture != old


@pytest.mark.parametrize(
    "params",
    [
        {"low": 200, "high": 100},
        {"low": (150, 50)},
        {"low": (50, 200), "high": (150, 250)},
        {"low": -1},
        {"high": 5000},
        {"kind": "depth"},
        {"kind": "canny", "model": "a/b"},
        {"stroke": 0},
    ],
)
def test_parameters_that_make_no_sense_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ControlParams(**params)


def test_a_sketch_without_a_network_is_bright_where_it_gets_darker_and_black_where_nothing_changes() -> None:
    picture = edges(make(kind="sketch").process([record()])[0])
    assert (picture.format, picture.width, picture.height) == ("png", SIDE, SIDE)
    pixels = read_picture(picture)[:, :, 0]
    assert np.array_equal(pixels, dodge_sketch(drawing(), ControlParams().stroke))
    assert pixels[14:16, 24:40].max(axis=0).min() > 60, "outside the square's upper edge"
    assert not pixels[:10].any() and not pixels[20:25, 20:25].any()
    assert not dodge_sketch(np.full((1, 40, 3), 9, np.uint8), 0.2).any()


def test_wider_strokes_reach_farther_and_sketches_scale_with_the_picture() -> None:
    reach = [(dodge_sketch(drawing(), stroke) > 8).sum() for stroke in (0.01, 0.03, 0.1)]
    assert reach == sorted(set(reach))
    twice = drawing().repeat(2, axis=0).repeat(2, axis=1)
    small, large = dodge_sketch(drawing(), 0.04), dodge_sketch(twice, 0.04)
    assert np.abs(large[::2, ::2].astype(int) - small).mean() < 3


def test_depth_is_drawn_for_all_records_at_once_and_named_in_lineage(tmp_path: Path) -> None:
    params = {"kind": "depth", "model": str(save(tmp_path, "depth_anything"))}
    stage = make(**params)
    images = [np.random.default_rng(n).integers(0, 256, (40 + n % 2, 50, 3), np.uint8) for n in range(5)]
    reads = [record(f"k{n}", image=image) for n, image in enumerate(images)]
    together = stage.process(reads)
    assert [stage.process([read])[0] for read in reads] == together
    for read, out in zip(reads, together, strict=True):
        picture = edges(out)
        assert (picture.width, picture.height) == (read.image.width, read.image.height)
    (use,) = MakeControl.models(ControlParams(**params))
    assert use.revision.startswith("sha256:")
    assert MakeControl.models(ControlParams()) == ()


def test_a_picture_without_a_map_fails_alone() -> None:
    def drawer(images: Sequence[Pixels]) -> list[Gray | None]:
        return [None if image.max() == 0 else image[:, :, 0] for image in images]

    stage = MakeControl(ControlParams(kind="depth", model="m"), 0, drawer)
    black = record("b", image=np.zeros((4, 4, 3), np.uint8))
    kept, failed = stage.process([record(), black])
    assert isinstance(kept, ControlOut) and isinstance(failed, Fail)
    assert failed.reason == "no_map" and "depth of m" in failed.message
