"""Photographs that come with scikit-image."""

from functools import cache

import numpy as np
import pytest

from stages.pixels import Pixels


@cache
def _astronaut() -> Pixels:
    data = pytest.importorskip("skimage.data", reason="the photographs are in scikit-image, the extra `demo`")
    return np.asarray(data.astronaut(), np.uint8)


def astronaut() -> Pixels:
    """Eileen Collins in a space suit, looking into the camera; 512 x 512 pixels, by NASA."""
    return _astronaut()
