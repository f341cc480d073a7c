"""Decodes mutated pictures of every format within bounded memory: ``python -m tests.stages.mutated SEED COUNT``.

Whatever is raised but ``ImageError`` ends it, as does a crash; so does using more memory than a picture may need.
"""

import random
import resource
import sys
import warnings

import numpy as np
from PIL import Image

from benchmarks.bad_input.pictures import MAKERS, make
from stages.formats import ImageError
from stages.web_image import WebImage
from tests.stages.pictures import SCENE, encode
from tests.stages.raw_files import tiff

MAX_PIXELS = 4_000_000
MAX_BYTES = 250_000_000
"""Beyond what the files themselves took: 4 million pixels in 4 bytes each, decoded, converted and turned."""

_ODD = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\xff\xff", b"\0", b"\xff", b"\x80")


def pictures() -> dict[str, bytes]:
    """A file of every format and of most codings."""
    image = Image.fromarray(SCENE)
    files = {kind: make(kind, 1).data for kind in MAKERS if kind not in ("bomb", "banner", "html", "svg")}
    files |= {f"{name} tiff": encode("TIFF", image, compression=name) for name in ("tiff_lzw", "packbits", "jpeg")}
    files |= {"fax tiff": encode("TIFF", image.convert("1"), compression="group4")}
    files |= {"tiled tiff": tiff(np.zeros((64, 64, 3), np.uint8), photometric="rgb", tile=(32, 32))}
    files |= {"packed floats": tiff(SCENE / np.float32(255), photometric="rgb", compression="zlib")}
    files |= {"bmp": encode("BMP"), "palette bmp": encode("BMP", image.quantize(16))}
    files |= {"progressive": encode("JPEG", progressive=True), "inks": encode("TIFF", image.convert("CMYK"))}
    return files | {"animated avif": encode("AVIF", save_all=True, append_images=[image.rotate(90)])}


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, left out or put in; more often than not in the header."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        place = rng.randrange(min(len(changed), rng.choice([40, 200, 800, len(changed), len(changed)])) or 1)
        match rng.randrange(4):
            case 0:
                changed[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del changed[place : place + rng.randint(1, 50)]
            case 2:
                changed[place:place] = rng.randbytes(rng.randint(1, 8))
            case _:
                odd = rng.choice(_ODD)
                changed[place : place + len(odd)] = odd
    return bytes(changed)


def decode(data: bytes, long_side: int | None) -> bool:
    """Whether it gives a picture."""
    try:
        upright = WebImage(data, MAX_PIXELS).decode(long_side)
    except ImageError:
        return False
    assert upright.pixels.dtype == np.uint8 and upright.pixels.shape[2] == 3
    assert upright.width * upright.height <= MAX_PIXELS
    return True


def _used() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(seed: int, count: int) -> None:
    """Decode ``count`` mutated files, and print how many gave a picture."""
    rng, files = random.Random(seed), pictures()
    warnings.simplefilter("ignore")
    for data in files.values():
        decode(data, None)
    before, kept = _used(), 0
    for _ in range(count):
        name = rng.choice(sorted(files))
        kept += decode(mutate(files[name], rng), rng.choice([None, 100]))
        assert _used() - before < MAX_BYTES, f"a mutated {name} took {_used() - before:,} bytes"
    print(kept)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
