"""Pictures to download: cuts of real photographs, as large as the web's are on average."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.demo.photos import PHOTOS

PIXELS = 460_000
QUALITY = 85
MEAN_BYTES = 94_000
"""Of one picture of 0.46 megapixels in LAION-400M."""

CAPTION = "a photograph of something, as alternative texts have it, number"


def write_pictures(folder: Path, count: int, seed: int = 0) -> None:
    """Write ``count`` JPEGs, named by number; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    if len(list(folder.glob("*.jpg"))) == count:
        return
    for number, jpeg in enumerate(_pictures(count, Random(seed))):
        (folder / f"{number:05}.jpg").write_bytes(jpeg)


def read_pictures(folder: Path) -> Sequence[bytes]:
    """All JPEGs of a folder, in order."""
    return [file.read_bytes() for file in sorted(folder.glob("*.jpg"))]


def write_table(path: Path, address: str, rows: int, pictures: int) -> None:
    """A Parquet of ``rows`` different URLs at ``address``, over and over the same pictures, and captions."""
    urls = [f"{address}/{number % pictures:05}.jpg?row={number}" for number in range(rows)]
    captions = [f"{CAPTION} {number}" for number in range(rows)]
    pq.write_table(pa.table({"URL": urls, "TEXT": captions}), path)


def _pictures(count: int, rng: Random) -> Iterator[bytes]:
    photos = [photo.open().convert("RGB") for photo in PHOTOS]
    for _ in range(count):
        yield _encode(_cut(rng.choice(photos), rng), rng)


def _cut(photo: Image.Image, rng: Random) -> Image.Image:
    """A part of a photograph, at a size of about ``PIXELS``."""
    aspect = rng.uniform(0.67, 1.5)
    width, height = round((PIXELS * aspect) ** 0.5), round((PIXELS / aspect) ** 0.5)
    share = rng.uniform(0.6, 1.0) * min(photo.width / width, photo.height / height)
    left = rng.uniform(0, photo.width - share * width)
    top = rng.uniform(0, photo.height - share * height)
    box = (left, top, left + share * width, top + share * height)
    return photo.resize((width, height), Image.Resampling.BICUBIC, box=box)


def _encode(picture: Image.Image, rng: Random) -> bytes:
    """A JPEG with as much noise as brings the mean of all to ``MEAN_BYTES``."""
    noise = Image.effect_noise(picture.size, rng.uniform(0, _NOISE)).convert("RGB")
    grainy = Image.blend(picture, noise, 0.12)
    file = io.BytesIO()
    grainy.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


_NOISE = 64.0
