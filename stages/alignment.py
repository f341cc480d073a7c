"""Faces turned, scaled and cut so that their landmarks stand where face-recognition networks expect them."""

from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from manifests.record import Point
from stages.pixels import Pixels

Points: TypeAlias = npt.NDArray[np.float64]
"""(point, ``x y``) in pixels."""

SIDE = 112
"""Pixels on a side of an aligned face."""

TEMPLATE: Points = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
"""Where the five landmarks of :class:`Face` stand on an aligned face.

Source: Deng et al. 2019, "ArcFace", section 4.1, with the points of its code (insightface), which AdaFace shares.
"""


def as_points(landmarks: Sequence[Point], x: float = 1, y: float = 1) -> Points:
    """Landmarks as an array, times ``x`` across and ``y`` down, such as from the image to the original."""
    return np.array([(point.x * x, point.y * y) for point in landmarks], np.float64).reshape(-1, 2)


def fit_similarity(points: Points, onto: Points) -> npt.NDArray[np.float64]:
    """The turn, scale and shift that bring ``points`` nearest to ``onto`` in least squares, as a 2 x 3 matrix.

    Raises:
        ValueError: If the points are too few, all in one place, or no numbers.

    Source: Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns",
    equations 40 to 42; in the plane the best turn has a closed form in complex numbers, so no SVD is needed.
    """
    if len(points) < 2 or not np.isfinite(points).all() or (points == points[0]).all():
        raise ValueError(f"landmarks must be two or more points in different places, got {points.tolist()}")
    a, b = (points.astype(np.float64) @ (1, 1j) for points in (points, onto))
    spread = a - a.mean()
    turn = complex((spread.conj() * (b - b.mean())).sum() / (abs(spread) ** 2).sum())
    shift = complex(b.mean() - turn * a.mean())
    return np.array([(turn.real, -turn.imag, shift.real), (turn.imag, turn.real, shift.imag)])


def align_face(pixels: Pixels, landmarks: Points) -> Pixels:
    """The face as RGB of 112 x 112 pixels, black beyond the picture's edge.

    Args:
        pixels: The picture.
        landmarks: The five of :class:`Face`, in pixels of the picture.

    Raises:
        ValueError: If they are not five, all in one place, or no numbers.
    """
    if landmarks.shape != TEMPLATE.shape:
        raise ValueError(f"a face is aligned by five landmarks, got {len(landmarks)}")
    matrix = fit_similarity(landmarks, TEMPLATE)
    return np.asarray(cv2.warpAffine(pixels, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR), np.uint8)
