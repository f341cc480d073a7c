"""The perceptual hash: what changes it little, what changes it much."""

import io
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.fft import dct

from manifests.record import Picture
from stages.phash import hash_of, perceptual_hash
from stages.pixels import Pixels, read_picture, write_jpeg, write_png


def scene(seed: int, side: int = 320) -> Pixels:
    """A smooth picture of many shapes, as photographs are to this hash."""
    rng = np.random.default_rng(seed)
    pixels = cv2.resize(
        rng.integers(0, 256, (9, 12, 3), np.uint8), (side * 4 // 3, side), interpolation=cv2.INTER_CUBIC
    )
    for _ in range(6):
        x, y, size = (int(value) for value in rng.integers(20, side - 20, 3))
        cv2.circle(pixels, (x, y), size // 4, [int(c) for c in rng.integers(0, 256, 3)], -1)
    return pixels


def distance(one: int | None, other: int | None) -> int:
    assert one is not None and other is not None
    return (one ^ other).bit_count()


def altered(change: Callable[[Image.Image], Image.Image], picture: Picture) -> Picture:
    image = change(Image.fromarray(read_picture(picture)))
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=60)
    return Picture(format="jpg", width=image.width, height=image.height, data=sink.getvalue())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: image.resize((image.width // 2, image.height // 2)),
        lambda image: image.resize((image.width, image.height * 3 // 4)),
        lambda image: ImageEnhance.Brightness(image).enhance(1.15),
        lambda image: image.convert("L").convert("RGB"),
    ],
    ids=["recompressed", "halved", "squeezed", "brighter", "grey"],
)
def test_what_people_do_to_a_picture_changes_few_bits(change: Callable[[Image.Image], Image.Image], seed: int) -> None:
    picture = write_jpeg(scene(seed), 95)
    assert distance(perceptual_hash(picture), perceptual_hash(altered(change, picture))) <= 4


def test_different_pictures_differ_in_many_bits() -> None:
    hashes = [perceptual_hash(write_jpeg(scene(seed))) for seed in range(30)]
    assert min(distance(one, other) for i, one in enumerate(hashes) for other in hashes[:i]) > 10


def test_a_plain_picture_has_none() -> None:
    for pixels in (np.full((64, 64, 3), 200, np.uint8), np.zeros((90, 40, 3), np.uint8)):
        assert perceptual_hash(write_jpeg(pixels)) is None
        assert perceptual_hash(write_png(pixels)) is None


def test_the_bits_are_those_of_the_cosine_transform_of_scipy() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(float)
    low = dct(dct(grey, axis=0), axis=1)[:8, :8]
    bits = "".join("1" if bit else "0" for bit in (low > np.median(low)).ravel())
    assert hash_of(grey) == int(bits, 2)
