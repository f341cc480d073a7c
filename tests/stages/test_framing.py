import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import Annotation, Box, Face, Keypoint, Point
from stages.framing import Frame, place_frame
from stages.geometry import Window
from stages.masks import decode_mask, encode_mask
from tests.strategies import boxes

examples = settings(deadline=None, max_examples=100)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[int, int, Box, Box | None]:
    """A picture's sides, with a focus and perhaps a face in it."""
    width, height = draw(st.integers(1, 900)), draw(st.integers(1, 900))
    inside = boxes(width, height)
    return width, height, draw(inside), draw(st.none() | inside)


@examples
@given(scenes(), st.floats(0.1, 10))
def test_a_frame_has_its_shape_lies_in_the_picture_and_is_as_large_as_can_be(
    scene: tuple[int, int, Box, Box | None], aspect: float
) -> None:
    width, height, focus, face = scene
    window = place_frame(width, height, aspect, focus, face)
    assert 0 <= window.x0 < window.x1 <= width and 0 <= window.y0 < window.y1 <= height
    assert window.width == width or window.height == height
    assert abs(window.width - window.height * aspect) <= 1 + aspect or 1 in (window.width, window.height)


@examples
@given(scenes(), st.floats(0.1, 10))
def test_a_face_that_fits_is_wholly_in_the_frame(scene: tuple[int, int, Box, Box | None], aspect: float) -> None:
    width, height, focus, face = scene
    window = place_frame(width, height, aspect, focus, face)
    if face and face.x1 - face.x0 <= window.width and face.y1 - face.y0 <= window.height:
        assert window.x0 <= face.x0 + 0.5 and face.x1 <= window.x1 + 0.5
        assert window.y0 <= face.y0 + 0.5 and face.y1 <= window.y1 + 0.5


def test_the_focus_is_in_the_middle_as_far_as_the_picture_goes() -> None:
    assert place_frame(300, 100, 1, Box(x0=140, y0=0, x1=180, y1=100), None) == Window(110, 0, 210, 100)
    assert place_frame(300, 100, 1, Box(x0=0, y0=0, x1=20, y1=100), None) == Window(0, 0, 100, 100)
    assert place_frame(100, 300, 1, Box(x0=0, y0=280, x1=20, y1=290), None) == Window(0, 200, 100, 300)
    tall, face = Box(x0=0, y0=0, x1=100, y1=300), Box(x0=40, y0=10, x1=60, y1=40)
    assert place_frame(100, 300, 1, tall, face) == Window(0, 10, 100, 110)
    too_large = Box(x0=0, y0=20, x1=100, y1=220)
    assert place_frame(100, 300, 1, tall, too_large) == Window(0, 70, 100, 170)


FRAME = Frame(Window(30, 10, 70, 50), Window(60, 20, 140, 100), 200, 120, 0.3)
"""An image of 100 x 60 and an original of twice that."""


def box(x0: float, y0: float, x1: float, y1: float, **more: object) -> Annotation:
    return Annotation(phrase="dog", x0=x0, y0=y0, x1=x1, y1=y1, **more)  # type: ignore[arg-type]


def test_annotations_are_in_fractions_of_the_part() -> None:
    moved = FRAME.annotation(box(0.4, 0.25, 0.6, 0.75, score=0.5, is_crowd=True))
    assert moved == box(20 / 80, 10 / 80, 60 / 80, 70 / 80, score=0.5, is_crowd=True)
    cut = FRAME.annotation(box(0.2, 0.0, 0.5, 0.5))
    assert cut and (cut.x0, cut.y0, cut.x1, cut.y1) == pytest.approx((0, 0, 0.5, 0.5))


@pytest.mark.parametrize(
    "outside", [(0, 0, 0.2, 0.1), (0.1, 0.2, 0.35, 0.8), (math.nan, 0, 1, 1), (0.5, 0.5, 0.5, 0.6)]
)
def test_boxes_mostly_outside_or_no_boxes_are_left_out(outside: tuple[float, float, float, float]) -> None:
    assert FRAME.annotation(box(*outside)) is None


def test_masks_are_cut_with_the_original() -> None:
    pixels = np.zeros((120, 200), np.bool_)
    pixels[40:60, 50:90] = True
    whole = box(0.25, 0.25, 0.5, 0.5, mask=encode_mask(pixels))
    cut = FRAME.annotation(whole)
    assert cut and cut.mask
    assert np.array_equal(decode_mask(cut.mask), pixels[20:100, 60:140])
    nothing = encode_mask(np.zeros((120, 200), np.bool_))
    assert FRAME.annotation(replace(whole, mask=nothing)) is None
    other = FRAME.annotation(replace(whole, mask=encode_mask(pixels[1:])))
    assert other and other.mask is None


def test_keypoints_move_and_those_outside_are_left_out() -> None:
    points = tuple(
        Keypoint(name=name, x=x, y=y, is_visible=False)
        for name, x, y in [("nose", 0.5, 0.5), ("left_eye", 0.1, 0.5), ("left_ear", math.nan, 0.5)]
    )
    moved = FRAME.annotation(box(0.4, 0.25, 0.6, 0.75, keypoints=points))
    assert moved and moved.keypoints == (Keypoint(name="nose", x=0.5, y=0.5, is_visible=False),)


def test_faces_move_and_keep_their_crops() -> None:
    face = Face(box=Box(x0=20, y0=20, x1=40, y1=40), score=0.9, landmarks=(Point(x=32, y=25),))
    assert FRAME.face(face) == Face(box=Box(x0=0, y0=10, x1=10, y1=30), score=0.9, landmarks=(Point(x=2, y=15),))
    assert FRAME.face(replace(face, box=Box(x0=12, y0=20, x1=32, y1=40))) is None
    assert FRAME.face(replace(face, box=Box(x0=0, y0=0, x1=9, y1=9))) is None
