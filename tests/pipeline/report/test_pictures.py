import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from pipeline.report.pictures import outline, thumbnail
from stages.masks import BoolArray, encode_mask
from tests.pipeline.report.fixture import encoded


def _decoded(src: str) -> Image.Image:
    head, _, data = src.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize(("side", "size"), [(48, (48, 32)), (96, (96, 64)), (500, (96, 64)), (1, (1, 1))])
def test_a_thumbnail_keeps_its_shape_and_never_grows(side: int, size: tuple[int, int]) -> None:
    small = thumbnail(encoded(1), side)
    assert _decoded(small.src).size == size
    assert (small.width, small.height) == (96, 64)


def test_a_thumbnail_of_a_gray_picture_is_gray() -> None:
    pixels = np.asarray(_decoded(thumbnail(encoded(1, kind="canny"), 96).src).convert("RGB"), dtype=int)
    assert np.ptp(pixels, axis=2).max() <= 12


def _filled(path: str, height: int, width: int) -> BoolArray:
    """The pixels whose centres an even-odd fill of the path covers."""
    inside = np.zeros((height, width), np.bool_)
    y, x = np.mgrid[:height, :width] + 0.5
    for ring in re.findall(r"M([^z]*)z", path):
        points = [tuple(map(float, point.split(","))) for point in ring.split()]
        for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
            if y0 != y1:
                crosses = (y0 <= y) != (y1 <= y)
                inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


@pytest.mark.parametrize("scale", [1, 8])
def test_an_outline_covers_the_mask_but_for_its_rim(scale: int) -> None:
    y, x = np.mgrid[: 96 * scale, : 128 * scale] / scale
    ring = (np.hypot(x - 50, y - 48) < 40) & (np.hypot(x - 50, y - 48) > 20)
    mask = ring | ((x > 100) & (y > 60))
    filled = _filled(outline(encode_mask(mask)), *mask.shape)
    overlap = (filled & mask).sum() / (filled | mask).sum()
    assert overlap > 0.9


def test_an_empty_mask_has_no_outline() -> None:
    assert outline(encode_mask(np.zeros((40, 30), np.bool_))) == ""
