"""How near the pictures that ``decode`` stores are to exact ones, and img2dataset's beside them.

``python -m benchmarks.decode_pixels``: the demo's photographs, saved as the web's JPEGs are, shrunk by several factors.
Exact is every pixel decoded, then averaged over areas in floating point. What is compared is read back from the JPEG
that is stored. img2dataset's setting is its default, done by the same calls: all pixels by OpenCV, ``INTER_AREA`` on 8
bits, OpenCV's JPEG of quality 95 with halved chroma.
"""

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from pipeline.demo.photos import PHOTOS
from stages.base import Context
from stages.decode import Decode, DecodeIn, DecodeOut, DecodeParams
from stages.pixels import Pixels, read_picture, write_jpeg

FACTORS = (1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
QUALITY = 85

Exact: TypeAlias = npt.NDArray[np.float32]
"""sRGB in levels of 8 bits, (height, width, 3)."""

Way: TypeAlias = Callable[[bytes, int, int], Pixels]
"""From a JPEG to the pixels that are stored of it, at a width and height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one way at one factor, means over photographs.

    Attributes:
        error: Mean absolute error to the exact picture, in levels of 8 bits.
        sharpness: Mean absolute difference of neighbouring pixels, by the exact picture's.
        cpu_ms: CPU milliseconds of this process a picture, decoding to storing.
    """

    factor: float
    way: str
    error: float
    sharpness: float
    cpu_ms: float


def exact(original: bytes, width: int, height: int) -> Exact:
    """All pixels, averaged over areas."""
    return np.asarray(
        cv2.resize(_all_pixels(original).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    )


def antialiased(original: bytes, width: int, height: int) -> Pixels:
    """All pixels through Pillow's antialiased Lanczos: another right answer, to tell how far apart such are."""
    with Image.open(io.BytesIO(original)) as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))


def coded(original: bytes, width: int, height: int) -> Pixels:
    """The exact picture through the JPEG that ``decode`` stores: what storing alone costs."""
    return read_picture(write_jpeg(np.asarray(exact(original, width, height).round(), np.uint8)))


def ours(original: bytes, width: int, height: int) -> Pixels:
    """What ``decode`` stores."""
    params = DecodeParams(max_side=max(width, height), min_side=1, min_std=0)
    (kept,) = Decode.load(params, Context()).process([DecodeIn(key="k", original=original)])
    assert isinstance(kept, DecodeOut)
    return read_picture(kept.image)


def img2dataset(original: bytes, width: int, height: int) -> Pixels:
    """What img2dataset stores by default, but for the padding."""
    image = cv2.imdecode(np.frombuffer(original, np.uint8), cv2.IMREAD_UNCHANGED)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, stored = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]


WAYS: Mapping[str, Way] = {
    "stored exactly": coded,
    "Inlay": ours,
    "img2dataset": img2dataset,
    "Lanczos, not stored": antialiased,
}


def photographs() -> list[bytes]:
    """The demo's photographs at their own size, as JPEGs with halved chroma."""
    return [as_jpeg(photo.open().convert("RGB")) for photo in PHOTOS]


def as_jpeg(image: Image.Image) -> bytes:
    """A picture as the web has it."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return file.getvalue()


def shrunk(original: bytes, factor: float) -> tuple[int, int]:
    """Width and height of a picture whose longer side is shrunk so."""
    with Image.open(io.BytesIO(original)) as image:
        scale = round(max(image.size) / factor) / max(image.size)
        return round(image.width * scale), round(image.height * scale)


def _all_pixels(original: bytes) -> Pixels:
    with Image.open(io.BytesIO(original)) as image:
        return np.asarray(image.convert("RGB"))


def figures(originals: Sequence[bytes], factors: Sequence[float] = FACTORS) -> Iterator[Figures]:
    """Every way at every factor."""
    for factor in factors:
        for name, way in WAYS.items():
            yield _figures(originals, factor, name, way)


def _figures(originals: Sequence[bytes], factor: float, name: str, way: Way) -> Figures:
    errors, sharpness, cpu_s = [], [], 0.0
    for original in originals:
        width, height = shrunk(original, factor)
        wanted = exact(original, width, height)
        began = time.process_time()
        found = way(original, width, height)
        cpu_s += time.process_time() - began
        errors.append(error_of(found, wanted))
        sharpness.append(sharpness_of(found) / sharpness_of(wanted))
    return Figures(
        factor=factor,
        way=name,
        error=round(mean(errors), 3),
        sharpness=round(mean(sharpness), 4),
        cpu_ms=round(1000 * cpu_s / len(originals), 2),
    )


def error_of(found: Pixels, wanted: Exact) -> float:
    """Mean absolute error, in levels of 8 bits."""
    return float(np.abs(found - wanted).mean())


def sharpness_of(pixels: Pixels | Exact) -> float:
    """Mean absolute difference of neighbouring pixels."""
    levels = pixels.astype(np.float32)
    return float((np.abs(np.diff(levels, axis=0)).mean() + np.abs(np.diff(levels, axis=1)).mean()) / 2)


def main(
    out: Annotated[Path | None, typer.Option(help="Figures as JSON")] = None,
) -> None:
    """Measure every way at every factor."""
    rows = list(figures(photographs()))
    table = Table("shrunk by", *WAYS, caption="mean absolute error of 255 levels / sharpness / CPU ms")
    for factor in FACTORS:
        cells = [f"{row.error:.2f} / {row.sharpness:.3f} / {row.cpu_ms:.1f}" for row in rows if row.factor == factor]
        table.add_row(f"{factor:g}", *cells)
    Console().print(table)
    if out:
        out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    cv2.setNumThreads(1)
    typer.run(main)
