"""What finding duplicates costs, and what the perceptual hash finds: ``python -m benchmarks.dedup --folder FOLDER``.

By URL: rows of Parquet with a tenth repeated, wall-clock, CPU and the process's largest memory. By picture: hashes a
second, beside the ``imagehash`` package where it is installed, on photographs of scikit-image and scikit-learn and what
people do to them; how many bits change, how many of those pairs and of pairs of different cuts each limit takes for
the same. By distance: hashes at random with families among them, for how grouping grows.
"""

import argparse
import importlib.util
import io
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageEnhance

from benchmarks.pack import measured
from manifests.dag import parse_manifest
from manifests.record import Picture
from pipeline.duplicates.dedup import dedup_source
from pipeline.duplicates.near import first_alike
from stages.phash import perceptual_hash
from stages.pixels import Pixels, write_jpeg

_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "stereo_motorcycle", "retina", "immunohistochemistry")
_CUTS = 40
_LIMITS = (0, 2, 4, 6, 8, 10)

Change = Callable[[Image.Image], Image.Image]

CHANGES: Mapping[str, Change] = {
    "recompressed to quality 40": lambda image: image,
    "halved": lambda image: image.resize((image.width // 2, image.height // 2)),
    "to 3/4 of its height": lambda image: image.resize((image.width, image.height * 3 // 4)),
    "brighter by 20 %": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "contrast less by 20 %": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "2 % cut off each side": lambda image: image.crop(_inner(image, 0.02)),
    "5 % cut off each side": lambda image: image.crop(_inner(image, 0.05)),
    "mirrored (another picture)": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def _inner(image: Image.Image, share: float) -> tuple[int, int, int, int]:
    x, y = int(image.width * share), int(image.height * share)
    return x, y, image.width - x, image.height - y


def cuts() -> Iterator[Pixels]:
    """Different cuts of photographs, no two of which show the same."""
    data: Any = __import__("skimage.data", fromlist=["data"])
    rng = np.random.default_rng(0)
    for name in _PHOTOGRAPHS:
        try:
            found = getattr(data, name)()
        except OSError:  # some are only downloaded
            continue
        whole = found[0] if isinstance(found, tuple) else found
        side = min(whole.shape[:2]) // 3
        rows, columns = (range(0, length - side + 1, side) for length in whole.shape[:2])
        places = list(product(rows, columns))
        for place in rng.permutation(len(places))[:_CUTS]:
            y, x = places[place]
            yield np.ascontiguousarray(whole[y : y + side, x : x + side, :3])


def altered(pixels: Pixels, change: Change) -> Picture:
    """The picture after a change, as a JPEG of quality 40."""
    image = change(Image.fromarray(pixels))
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=40)
    return Picture(format="jpg", width=image.width, height=image.height, data=sink.getvalue())


def theirs(picture: Picture) -> int:
    """The hash by ``imagehash``, which decodes in full."""
    imagehash: Any = __import__("imagehash")
    return int(str(imagehash.phash(Image.open(io.BytesIO(picture.data)))), 16)


def quality(hash_of: Callable[[Picture], int | None], pixels: list[Pixels]) -> Iterator[str]:
    """How many bits changes move, and which share of pairs each limit takes for the same."""
    originals = [hash_of(write_jpeg(one, 95)) for one in pixels]
    limits = "".join(f"  <= {limit:2}" for limit in _LIMITS)
    yield f"{'':32}  median  most{limits}"
    for name, change in CHANGES.items():
        pairs = zip(originals, (hash_of(altered(one, change)) for one in pixels), strict=True)
        yield _line(name, [(a ^ b).bit_count() for a, b in pairs if a is not None and b is not None])
    yield _line("different cuts", [(a ^ b).bit_count() for a, b in combinations(filter(None, originals), 2)])


def _line(name: str, distances: list[int]) -> str:
    shares = "".join(f"  {sum(d <= limit for d in distances) / len(distances):5.1%}" for limit in _LIMITS)
    return f"{name:32}  {np.median(distances):6.1f}  {max(distances):4}{shares}"


def by_picture() -> Iterator[str]:
    """Quality, agreement and cost of the hash."""
    pixels = list(cuts())
    pictures = [write_jpeg(np.asarray(Image.fromarray(one).resize((512, 512)), np.uint8), 95) for one in pixels]
    ways: dict[str, Callable[[Picture], int | None]] = {"ours": perceptual_hash}
    if importlib.util.find_spec("imagehash"):
        ways["imagehash.phash"] = theirs
        pairs = [(ours, theirs(picture)) for picture in pictures if (ours := perceptual_hash(picture)) is not None]
        bits = [(a ^ b).bit_count() for a, b in pairs]
        yield f"bits in which ours differ from imagehash's: mean {np.mean(bits):.2f}, most {max(bits)}, of {len(bits)}"
    for name, way in ways.items():
        for picture in pictures:
            way(picture)
        cost = measured(lambda way=way: [way(picture) for picture in pictures for _ in range(5)])  # type: ignore[misc]
        yield f"{name}: {cost.cpu_s / len(pictures) / 5 * 1e3:.2f} CPU-ms a picture of 512 x 512, {len(pixels)} cuts"
        yield from quality(way, pixels)


def by_url(folder: Path, rows: int) -> Iterator[str]:
    """Cost of the pass over metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(0).integers(0, rows * 5, rows)
    for part in range(8):
        urls = [f"https://pictures.example/{number % 977}/{number:x}.jpg" for number in numbers[part::8].tolist()]
        pq.write_table(pa.table({"URL": urls, "TEXT": urls}), folder / f"{part}.parquet")
    text = (
        f"name: web\nsource: {{kind: parquet, paths: ['{folder}/*.parquet']}}\nnodes:\n- {{id: fetch, stage: fetch}}\n"
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    file = parse_manifest(text, "web.yaml")
    cost = measured(lambda: dedup_source(file, folder / "keep", lambda done, all_: None))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    found = pq.read_metadata(folder / "keep").num_rows
    yield f"by URL: {rows:,} rows, {found:,} repeat: {rows / cost.wall_s:,.0f} rows/s"
    yield f"        {cost.cpu_s / rows * 1e6:.2f} CPU-us a row; {grown / 1024:.0f} MiB more at most than before"


def by_distance(counts: tuple[int, ...], max_distance: int) -> Iterator[str]:
    """Cost of grouping hashes."""
    for count in counts:
        rng = np.random.default_rng(count)
        hashes = rng.integers(0, 2**64, count, np.uint64)
        hashes[: count // 10] = hashes[count // 10 : 2 * (count // 10)] ^ np.uint64(0b101)
        began = time.process_time()
        firsts = first_alike(hashes, max_distance)
        found = int((firsts != np.arange(count)).sum())
        yield f"{count:,} hashes within {max_distance} bits: {time.process_time() - began:.1f} CPU-s, {found:,} near"


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--hashes", type=int, nargs="+", default=[100_000, 1_000_000])
    options = parser.parse_args()
    for lines in (by_url(options.folder, options.rows), by_picture(), by_distance(tuple(options.hashes), 4)):
        for line in lines:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
