from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import Annotation, Box, Control, Face, Picture, Point, Region, Span, Subject
from stages.annotated import box_on
from stages.base import Context, Fail
from stages.geometry import Window
from stages.masks import decode_mask, encode_mask
from stages.pixels import Pixels, read_picture, resize, write_png
from stages.reframe import Reframe, ReframeIn, ReframeOut, ReframeParams
from stages.web_image import open_image
from tests.strategies import boxes

examples = settings(deadline=None, max_examples=60)
SCALE = 3


def plain(width: int, height: int) -> Pixels:
    return np.full((height, width, 3), (0, 60, 0), np.uint8)


def record(original: Pixels, *annotations: Annotation, **more: Any) -> ReframeIn:
    height, width = original.shape[:2]
    none: dict[str, Any] = {"faces": (), "subjects": None, "controls": (), "regions": None}
    return ReframeIn(
        original=write_png(original).data,
        original_width=width,
        original_height=height,
        image=write_png(resize(original, width // SCALE, height // SCALE)),
        annotations=annotations,
        **(none | more),
    )


def run(read: ReframeIn, **params: Any) -> ReframeOut:
    (out,) = Reframe.load(ReframeParams(**params), Context()).process([read])
    assert isinstance(out, ReframeOut)
    return out


def named(phrase: str, x0: float, y0: float, x1: float, y1: float, **more: Any) -> Annotation:
    return Annotation(phrase=phrase, x0=x0, y0=y0, x1=x1, y1=y1, **more)


def is_red(picture: Picture) -> np.ndarray:
    return read_picture(picture)[..., 0] > 127


@st.composite
def scenes(draw: st.DrawFn) -> tuple[ReframeIn, Window]:
    """A red rectangle on green, with its box, mask and a face on it; and the rectangle on the image."""
    width, height = draw(st.integers(30, 90)), draw(st.integers(30, 90))
    place = draw(boxes(width, height, least=8))
    x0, y0, x1, y1 = (round(edge) for edge in place.xyxy)
    large = plain(SCALE * width, SCALE * height)
    large[SCALE * y0 : SCALE * y1, SCALE * x0 : SCALE * x1] = (250, 0, 0)
    mask = encode_mask(large[..., 0] > 127)
    annotation = named("person", x0 / width, y0 / height, x1 / width, y1 / height, mask=mask)
    face = Face(box=Box(x0=x0, y0=y0, x1=x1, y1=y1), score=1, landmarks=(Point(x=x0, y=y0), Point(x=x1, y=y1)))
    return record(large, annotation, faces=(face,)), Window(x0, y0, x1, y1)


@examples
@given(scenes(), st.sampled_from([0.5, 0.75, 1.0, 1.6]))
def test_boxes_masks_faces_and_landmarks_land_on_what_they_are_of(
    scene: tuple[ReframeIn, Window], aspect: float
) -> None:
    out = run(scene[0], aspect=aspect, min_visible=0)
    (annotation,), (face,) = out.annotations, out.faces
    red = is_red(out.image)
    box = box_on(out.image, annotation)
    assert box and red[round(box.y0) : round(box.y1), round(box.x0) : round(box.x1)].mean() > 0.9
    assert red.sum() <= (box.x1 - box.x0 + 1) * (box.y1 - box.y0 + 1)
    assert box.xyxy == pytest.approx(face.box.xyxy, abs=1 / SCALE + 1e-6)
    original = open_image(out.original, out.original_width * out.original_height)
    assert original.shape == (out.original_height, out.original_width, 3)
    assert annotation.mask
    assert np.mean(decode_mask(annotation.mask) == (original[..., 0] > 127)) > 0.99
    corner, other = face.landmarks
    assert other.x - corner.x == scene[1].width and corner.x <= face.box.x0 <= face.box.x1 <= other.x


@examples
@given(scenes(), st.sampled_from([0.5, 0.75, 1.0, 1.6]))
def test_the_part_keeps_the_scale_and_shows_the_person(scene: tuple[ReframeIn, Window], aspect: float) -> None:
    read, place = scene
    out = run(read, aspect=aspect)
    assert abs(out.image.width - out.image.height * aspect) <= 1 + aspect
    assert out.original_width == pytest.approx(SCALE * out.image.width, abs=1)
    assert out.original_height == pytest.approx(SCALE * out.image.height, abs=1)
    seen = min(out.image.width, place.width) * min(out.image.height, place.height)
    assert is_red(out.image).sum() >= 0.8 * seen


def test_the_largest_person_comes_before_faces_and_other_things() -> None:
    small, large = named("woman", 0.6, 0.5, 0.7, 0.9), named("man", 0.7, 0.3, 0.9, 1)
    crowd = named("person", 0, 0, 0.6, 1, is_crowd=True)
    dog = named("dog", 0, 0, 0.4, 1)
    stranger = Face(box=Box(x0=5, y0=5, x1=25, y1=30), score=1)
    wide = np.repeat(np.linspace(0, 240, 600, dtype=np.uint8)[None, :, None], 300, axis=0).repeat(3, axis=2)
    assert left_edge(run(record(wide, dog, small, large, crowd, faces=(stranger,)))) == pytest.approx(100, abs=3)
    assert left_edge(run(record(wide, dog, crowd, faces=(stranger,)))) == pytest.approx(0, abs=3)
    assert left_edge(run(record(wide, named("dog", 0.4, 0, 0.7, 1)))) == pytest.approx(60, abs=3)
    assert left_edge(run(record(wide))) == pytest.approx(50, abs=3)


def left_edge(out: ReframeOut) -> float:
    """Where a part of an image of 200 pixels from black to 240 begins."""
    assert (out.image.width, out.image.height) == (100, 100)
    return float(read_picture(out.image)[:, 0].mean()) / 240 * 200


def test_a_face_stays_in_the_part_though_the_person_is_taller() -> None:
    face = Face(box=Box(x0=30, y0=12, x1=50, y1=36), score=1)
    out = run(record(plain(240, 720), named("man", 0.1, 0.02, 0.9, 1), faces=(face,)))
    assert (out.image.width, out.image.height) == (80, 80)
    assert out.faces[0].box.y1 - out.faces[0].box.y0 == pytest.approx(24, abs=0.5)


def test_a_picture_of_that_shape_is_left_as_it_is() -> None:
    read = record(plain(120, 120), named("dog", 0, 0, 0.5, 0.5))
    out = run(read)
    assert (out.original, out.image, out.annotations) == (read.original, read.image, read.annotations)


@pytest.mark.parametrize("size", [(3, 900), (900, 3)])
def test_a_picture_a_pixel_thin_gives_a_pixel(size: tuple[int, int]) -> None:
    out = run(record(plain(*size)))
    assert (out.image.width, out.image.height, out.original_width, out.original_height) == (1, 1, 3, 3)


def test_what_has_its_place_already_is_refused() -> None:
    span = Span(start=0, end=3)
    bare = Subject(phrase="dog", span=span, head="dog", head_span=span)
    where = Box(x0=0, y0=0, x1=9, y1=9)
    placed = Subject(phrase="dog", span=span, head="dog", head_span=span, box=where)
    control = Control(kind="canny", picture=write_png(plain(9, 9)))
    late: list[dict[str, Any]] = [
        {"subjects": (bare, placed)},
        {"controls": (control,)},
        {"regions": (Region(kind="random", box=where),)},
    ]
    for more in late:
        (out,) = Reframe.load(ReframeParams(), Context()).process([record(plain(90, 60), **more)])
        assert isinstance(out, Fail) and out.reason in Reframe.reasons
    assert run(record(plain(90, 60), subjects=(bare,))).original_width == 60
