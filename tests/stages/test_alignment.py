import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from manifests.record import Point
from stages.alignment import SIDE, TEMPLATE, Points, align_face, as_points, fit_similarity

examples = settings(deadline=None, max_examples=100)


def moved(points: Points, matrix: np.ndarray) -> Points:
    return points @ matrix[:, :2].T + matrix[:, 2]


@st.composite
def similarities(draw: st.DrawFn) -> np.ndarray:
    """A turn, a scale and a shift as a 2 x 3 matrix."""
    turn = draw(st.floats(0.05, 20)) * np.exp(1j * draw(st.floats(-np.pi, np.pi)))
    x, y = draw(st.floats(-500, 500)), draw(st.floats(-500, 500))
    return np.array([(turn.real, -turn.imag, x), (turn.imag, turn.real, y)])


@examples
@given(similarities())
def test_points_that_are_the_template_moved_are_brought_back_onto_it(matrix: np.ndarray) -> None:
    points = moved(TEMPLATE, matrix)
    assert moved(points, fit_similarity(points, TEMPLATE)) == pytest.approx(TEMPLATE, abs=1e-6)


@examples
@given(similarities(), st.integers(0, 2**32))
def test_noisy_points_are_fitted_as_scikit_image_fits_them(matrix: np.ndarray, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 5, TEMPLATE.shape)
    points = moved(TEMPLATE + noise, matrix)
    theirs = SimilarityTransform.from_estimate(points, TEMPLATE).params[:2]
    # 1e-6 of the largest term: both are closed forms in float64
    assert fit_similarity(points, TEMPLATE) == pytest.approx(theirs, rel=1e-6, abs=1e-6 * np.abs(theirs).max())


@pytest.mark.parametrize(
    "points", [np.zeros((5, 2)), np.full((5, 2), np.nan), np.full((5, 2), np.inf), np.zeros((1, 2)), np.zeros((0, 2))]
)
def test_points_that_say_no_scale_are_refused(points: Points) -> None:
    with pytest.raises(ValueError, match="landmarks must be two or more points"):
        fit_similarity(points, TEMPLATE[: len(points)])


def test_a_mark_at_a_landmark_lands_where_the_template_has_it() -> None:
    pixels = np.zeros((300, 400, 3), np.uint8)
    landmarks = np.array([(180, 100), (240, 120), (200, 150), (160, 170), (210, 190)], np.float64)
    pixels[146:155, 196:205, 0] = 255
    aligned = align_face(pixels, landmarks)
    assert aligned.shape == (SIDE, SIDE, 3) and not aligned[..., 1:].any()
    ys, xs = np.nonzero(aligned[..., 0] > 127)
    expected = moved(landmarks, fit_similarity(landmarks, TEMPLATE))[2]
    assert (xs.mean(), ys.mean()) == pytest.approx(expected, abs=0.6)
    assert np.hypot(*(expected - TEMPLATE[2])) < 12


def test_a_face_at_the_edge_is_black_beyond_it() -> None:
    white = np.full((50, 50, 3), 255, np.uint8)
    aligned = align_face(white, TEMPLATE - (60, 0))
    assert aligned[:, :59].max() == 0 and aligned[:49, 61:109].min() == 255 and aligned[51:].max() == 0


def test_a_face_without_five_landmarks_is_refused() -> None:
    with pytest.raises(ValueError, match="five landmarks, got 3"):
        align_face(np.zeros((9, 9, 3), np.uint8), TEMPLATE[:3])


def test_landmarks_become_points_on_another_size() -> None:
    points = as_points((Point(x=1, y=2), Point(x=3, y=4)), x=10, y=100)
    assert points.tolist() == [[10, 200], [30, 400]]
    assert as_points(()).shape == (0, 2)
