"""Where a face is by a person's keypoints, and where the head is by the face; pure geometry."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from manifests.record import Box, Keypoint, Point
from stages.geometry import clip

_FRONT = frozenset({"nose", "left_eye", "right_eye"})
_HEAD = frozenset({"nose", "left_eye", "right_eye", "left_ear", "right_ear"})

_SPANS: Mapping[frozenset[str], float] = {
    frozenset({"left_eye", "right_eye"}): 1.0,
    frozenset({"nose", "left_eye"}): 0.85,
    frozenset({"nose", "right_eye"}): 0.85,
    frozenset({"left_ear", "right_ear"}): 2.3,
    frozenset({"left_eye", "left_ear"}): 1.5,
    frozenset({"right_eye", "right_ear"}): 1.5,
    frozenset({"left_eye", "right_ear"}): 2.1,
    frozenset({"right_eye", "left_ear"}): 2.1,
    frozenset({"nose", "left_ear"}): 2.1,
    frozenset({"nose", "right_ear"}): 2.1,
}
"""How far apart two points of a head are, in distances between the pupils, along the head and not in the picture.

Ours: rounded from COCO's keypoints on heads seen from in front and from the side; the mean distances of adults agree
(pupils about 63 mm, ears about 140 mm; Gordon et al. 1989, "1988 Anthropometric Survey of U.S. Army Personnel").
"""

_WIDTH, _HEIGHT = 2.3, 2.8
"""Of a face's box, in distances between the pupils: from ear to ear, and as high as MTCNN draws it (0.81 : 1)."""

_EYES_BELOW_TOP, _NOSE_BELOW_TOP = 0.36, 0.5
"""In heights of a face's box. Source: the medians of COCO's keypoints in MTCNN's boxes."""


def face_by_keypoints(keypoints: Sequence[Keypoint], width: int, height: int) -> Box | None:
    """The box of a face by its nose, eyes and ears; ``None`` if neither nose nor eye shows, or there are too few.

    A distance in the picture is never longer than that on the head, whichever way it is turned; so of all pairs of
    points the one longest for its kind says best how large the head is. The box lies around the middle of the points
    across, and has nose and eyes at their heights.

    Args:
        keypoints: Of one person; others than those five don't count.
        width: Of the picture, in pixels.
        height: Of the picture.
    """
    points = {point.name: point for point in keypoints if point.name in _HEAD and math.isfinite(point.x + point.y)}
    if not any(point.is_visible for name, point in points.items() if name in _FRONT):
        return None
    places = {name: Point(x=point.x * width, y=point.y * height) for name, point in points.items()}
    unit = max((_distance(places, pair) / _SPANS[frozenset(pair)] for pair in combinations(places, 2)), default=0)
    if unit == 0:
        return None
    xs = [place.x for place in places.values()]
    x, top = (min(xs) + max(xs)) / 2, _top(places, unit * _HEIGHT)
    box = Box(x0=x - unit * _WIDTH / 2, y0=top, x1=x + unit * _WIDTH / 2, y1=top + unit * _HEIGHT)
    return clip(box, width, height)


def _distance(places: Mapping[str, Point], pair: tuple[str, str]) -> float:
    a, b = places[pair[0]], places[pair[1]]
    return math.hypot(a.x - b.x, a.y - b.y)


def _top(places: Mapping[str, Point], height: float) -> float:
    """The upper edge of a box of a height: the mean of what nose and eyes say."""
    below = {"nose": _NOSE_BELOW_TOP, "left_eye": _EYES_BELOW_TOP, "right_eye": _EYES_BELOW_TOP}
    tops = [place.y - below[name] * height for name, place in places.items() if name in below]
    return sum(tops) / len(tops)


def holds_centre(person: Box, face: Box) -> bool:
    """Whether the middle of a face is in a person's box."""
    x, y = centre(face)
    return person.x0 <= x < person.x1 and person.y0 <= y < person.y1


def centre(box: Box) -> tuple[float, float]:
    """The middle of a box: ``x, y``."""
    return (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2


def head_by_face(face: Box, growth: tuple[float, float, float], person: Box) -> Box:
    """The box of a head, with hair and ears, by that of its face.

    Args:
        face: Its box.
        growth: Shares of the face's width added left and right, and of its height above and below.
        person: Box of the person, which the head does not leave; it holds the face's centre.
    """
    sides, above, below = growth
    width, height = face.x1 - face.x0, face.y1 - face.y0
    return Box(
        x0=max(face.x0 - sides * width, person.x0),
        y0=max(face.y0 - above * height, person.y0),
        x1=min(face.x1 + sides * width, person.x1),
        y1=min(face.y1 + below * height, person.y1),
    )
