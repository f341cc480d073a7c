from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from manifests.record import Control, Picture
from stages.base import Context
from stages.control import ControlIn, ControlOut, ControlParams, MakeControl, canny
from stages.pixels import Pixels, read_picture, write_png

SIDE = 64


def drawing() -> Pixels:
    """A bright square on a dark ground, and a faint one in it."""
    pixels = np.full((SIDE, SIDE, 3), 40, np.uint8)
    pixels[16:48, 16:48] = 200
    pixels[28:36, 28:36] = 225
    return pixels


def record(key: str = "k", *controls: Control) -> ControlIn:
    return ControlIn(key=key, image=write_png(drawing()), controls=controls)


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
    ],
)
def test_thresholds_out_of_order_or_range_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ControlParams(**params)
