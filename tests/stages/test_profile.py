"""Profiles built from chromaticities, as LittleCMS understands them."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageCms

from stages.colour import srgb_transform
from stages.profile import SRGB_CURVE, Encoding, gamma_curve, rgb_profile

SRGB = ((0.3127, 0.3290), (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))


def test_the_profile_of_srgb_is_srgb() -> None:
    assert srgb_transform(rgb_profile(Encoding(SRGB, SRGB_CURVE)), "RGB") is None
    assert srgb_transform(rgb_profile(Encoding(SRGB, gamma_curve(1))), "RGB") is not None


def test_the_primaries_are_those_of_the_standard_profile() -> None:
    ours = ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile(Encoding(SRGB, SRGB_CURVE)))).profile
    theirs = ImageCms.createProfile("sRGB")
    for name in ("red_colorant", "green_colorant", "blue_colorant"):
        assert np.allclose(getattr(ours, name)[0], getattr(theirs, name)[0], atol=2e-4)


@given(st.lists(st.floats(0.01, 0.98), min_size=8, max_size=8), st.floats(0.2, 5))
def test_any_chromaticities_give_a_profile_or_a_value_error(numbers: list[float], gamma: float) -> None:
    points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    try:
        profile = rgb_profile(Encoding(points, gamma_curve(gamma)))
    except ValueError:
        return
    srgb_transform(profile, "RGB")


@pytest.mark.parametrize(
    "points",
    [(SRGB[0],) * 4, (*SRGB[:3], SRGB[2]), ((0.3, 0.0), *SRGB[1:]), ((0.7, 0.7), *SRGB[1:])],
)
def test_impossible_chromaticities_are_refused(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="no colour"):
        rgb_profile(Encoding(points, SRGB_CURVE))
