"""Pictures for tests, and how far two differ."""

import io

import cv2
import numpy as np
from PIL import Image

from stages.pixels import Pixels


def smooth(height: int, width: int, seed: int = 0) -> Pixels:
    """A picture without sharp edges or symmetry, as codecs like it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


SCENE = smooth(48, 72)


def encode(form: str, image: Image.Image | Pixels = SCENE, **options: object) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def error(left: Pixels, right: Pixels) -> float:
    """Mean absolute difference in 8-bit levels."""
    assert left.shape == right.shape
    return float(np.abs(left.astype(int) - right).mean())
