import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import Box, Keypoint
from stages.geometry import intersection
from stages.head_geometry import face_by_keypoints, head_by_face
from tests.strategies import boxes, keypoints

WIDTH, HEIGHT = 400, 300
examples = settings(deadline=None, max_examples=100)

FRONT = {"nose": (200, 150), "left_eye": (220, 130), "right_eye": (180, 130), "left_ear": (246, 140)}
FRONT |= {"right_ear": (154, 140)}
"""A head seen from in front, its pupils 40 pixels apart."""


def points(places: dict[str, tuple[float, float]], *hidden: str) -> list[Keypoint]:
    return [
        Keypoint(name=name, x=x / WIDTH, y=y / HEIGHT, is_visible=name not in hidden) for name, (x, y) in places.items()
    ]


def face(places: dict[str, tuple[float, float]], *hidden: str) -> Box:
    box = face_by_keypoints(points(places, *hidden), WIDTH, HEIGHT)
    assert box is not None
    return box


def without(*names: str) -> dict[str, tuple[float, float]]:
    return {name: place for name, place in FRONT.items() if name not in names}


def test_a_face_from_in_front_reaches_from_ear_to_ear_and_around_the_nose() -> None:
    box = face(FRONT)
    assert (box.x0, box.x1) == pytest.approx((154, 246))
    assert (box.y0, box.y1) == pytest.approx((92, 204), abs=2)


@pytest.mark.parametrize("missing", [("left_ear", "right_ear"), ("nose",), ("left_eye", "right_ear"), ("right_eye",)])
def test_a_face_is_about_the_same_with_points_missing(missing: tuple[str, ...]) -> None:
    assert face(without(*missing)).xyxy == pytest.approx(face(FRONT).xyxy, abs=92 / 4)  # a quarter of its width


def test_a_profile_is_as_large_as_the_distance_from_nose_to_ear_says() -> None:
    profile = {"nose": (100.0, 150.0), "left_eye": (112.0, 132.0), "left_ear": (184.0, 140.0)}
    box = face(profile)
    assert box.x1 - box.x0 == pytest.approx(110, abs=6)
    assert (box.x0 + box.x1) / 2 == pytest.approx(142)


@pytest.mark.parametrize(
    "places",
    [{}, without("nose", "left_eye", "right_eye"), without("left_eye", "right_eye", "left_ear", "right_ear")],
    ids=["none", "from behind", "one point"],
)
def test_there_is_no_face_without_front_or_size(places: dict[str, tuple[float, float]]) -> None:
    assert face_by_keypoints(points(places), WIDTH, HEIGHT) is None


def test_a_face_whose_front_is_hidden_is_none() -> None:
    assert face_by_keypoints(points(FRONT, "nose", "left_eye", "right_eye"), WIDTH, HEIGHT) is None
    assert face(FRONT, "nose", "left_eye") == face(FRONT)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_points_that_are_no_numbers_or_of_other_parts_do_not_count(bad: float) -> None:
    nose, *others = points(FRONT)
    expected = face(without("nose"))
    assert face_by_keypoints([replace(nose, x=bad), *others], WIDTH, HEIGHT) == expected
    assert face_by_keypoints([replace(nose, name="left_knee", y=0.9), *others], WIDTH, HEIGHT) == expected


@settings(deadline=None, max_examples=40)
@given(st.lists(keypoints, max_size=6), st.integers(1, 4000), st.integers(1, 4000))
def test_any_points_give_a_box_inside_the_picture_or_none(found: list[Keypoint], width: int, height: int) -> None:
    names = ["nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_knee"]
    named = [replace(point, name=name) for point, name in zip(found, names, strict=False)]
    box = face_by_keypoints(named, width, height)
    assert box is None or (0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height)


@examples
@given(st.floats(0.2, 0.6), st.floats(-20, 20), st.floats(-20, 20))
def test_a_face_follows_its_points(scale: float, x: float, y: float) -> None:
    moved = {name: (100 + x + px * scale, 80 + y + py * scale) for name, (px, py) in FRONT.items()}
    before, after = face(FRONT), face(moved)
    expected = [100 + x + before.x0 * scale, 80 + y + before.y0 * scale]
    expected += [100 + x + before.x1 * scale, 80 + y + before.y1 * scale]
    assert after.xyxy == pytest.approx(expected, abs=1e-6)


growths = st.tuples(*[st.floats(0, 2)] * 3)


@examples
@given(boxes(), growths)
def test_a_head_holds_its_face_and_stays_in_its_person(face: Box, growth: tuple[float, float, float]) -> None:
    person = Box(x0=face.x0 - 1, y0=face.y0 - 1, x1=face.x1 + 1, y1=face.y1 + 60)
    head = head_by_face(face, growth, person)
    assert intersection(head, face) == pytest.approx(face.area)
    assert intersection(head, person) == pytest.approx(head.area)


def test_a_head_grows_by_shares_of_the_face() -> None:
    face, person = Box(x0=40, y0=50, x1=60, y1=80), Box(x0=0, y0=0, x1=100, y1=100)
    assert head_by_face(face, (0.5, 1, 0.1), person).xyxy == pytest.approx((30, 20, 70, 83))
