"""The perceptual hash: 64 bits that stay nearly the same when a picture is resized, recompressed or toned."""

import io
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from manifests.record import Picture

_SIDE, _KEPT = 32, 8
_DRAFT = 4 * _SIDE
"""A JPEG is decoded at the least scale of libjpeg's that has this side; reading the rest would change few bits."""

_FLAT = 64.0
"""No coefficient is larger in a picture without structure, whose bits are noise. Ours: a tenth of a grey level's swing
over the whole picture."""


def perceptual_hash(picture: Picture) -> int | None:
    """The hash of a picture; ``None`` if it is so plain that it has none.

    The signs, against their median, of the 8 x 8 lowest frequencies of the cosine transform of 32 x 32 grey levels, as
    the `imagehash` package has them (``phash``), which follows Zauner 2010, section 3.2.1.
    """
    with Image.open(io.BytesIO(picture.data)) as image:
        image.draft("L", (_DRAFT, _DRAFT))
        grey = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return hash_of(np.asarray(grey, np.float64))


def hash_of(grey: npt.NDArray[np.float64]) -> int | None:
    """The hash of 32 x 32 grey levels."""
    low = _cosines() @ grey @ _cosines().T
    if np.abs(low.ravel()[1:]).max() < _FLAT:
        return None
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


@cache
def _cosines() -> npt.NDArray[np.float64]:
    """The first rows of the type-II cosine transform, unscaled: 2 cos(pi k (2 n + 1) / 2 N)."""
    k, n = np.arange(_KEPT)[:, None], np.arange(_SIDE)[None, :]
    return np.asarray(2 * np.cos(np.pi * k * (2 * n + 1) / (2 * _SIDE)), np.float64)
