"""What is wrong with the web: bad entries, each made from a good one that comes right before it."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from PIL import Image, ImageOps

from pipeline.demo.encode import jpeg, png
from pipeline.demo.entry import Entry
from pipeline.demo.photos import DEEP_FIELD
from pipeline.demo.server import CUT_OFF, ENDLESS, ERROR, SLOW
from pipeline.demo.views import make_view

Fault: TypeAlias = Callable[[Entry], Entry]

BOMB_SIDE = 20_000
_HTML = b"<!DOCTYPE html><html><head><title>Not found</title></head><body>This picture has moved.</body></html>\n"
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="480"><circle cx="320" cy="240" r="200"/></svg>\n'


def _served(prefix: str) -> Fault:
    """The good one's address under a prefix that the server does something bad at, or knows nothing of."""
    return lambda good: replace(good, path=f"{prefix}{good.path}", file=None)


def _file(name: str, data: Callable[[Entry], bytes]) -> Fault:
    """Another file, with the good one's words."""
    return lambda good: replace(good, path=f"/{name}", file=data(good))


def _stretched(name: str, width: int, height: int) -> Fault:
    """The good one's picture, squeezed into an unusual size, with its words and boxes."""

    def fault(good: Entry) -> Entry:
        picture = good.view.draw().resize((width, height))
        return replace(good, path=f"/{name}", file=jpeg(picture), width=width, height=height)

    return fault


def _flat(good: Entry) -> bytes:
    return png(Image.new("RGB", (good.width, good.height), "#d8dadc"))


def _said(name: str, caption: str | None) -> Fault:
    """A sound picture, the good one's mirror image, with words that name nothing of it."""

    def fault(good: Entry) -> Entry:
        file = jpeg(ImageOps.mirror(good.view.draw()))
        return replace(good, path=f"/{name}", file=file, caption=caption, phrases=())

    return fault


def _truncated(good: Entry) -> bytes:
    whole = jpeg(good.view.draw())
    return whole[: len(whole) // 2]


def _bomb(_: Entry) -> bytes:
    """A sound PNG of some kilobytes that would decode to 400 million pixels."""
    row = bytes(1 + BOMB_SIDE // 8)
    pack = zlib.compressobj(9)
    packed = b"".join(pack.compress(row * 100) for _ in range(BOMB_SIDE // 100)) + pack.flush()
    header = struct.pack(">IIBBBBB", BOMB_SIDE, BOMB_SIDE, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _small_subject(good: Entry) -> Entry:
    size = DEEP_FIELD.open().size
    view = make_view(DEEP_FIELD, DEEP_FIELD.captions[0], (0, 0, *size), max(size))
    return Entry(
        kind=good.kind,
        path="/deep_field.jpg",
        file=jpeg(view.draw()),
        view=view,
        caption=view.caption,
        width=view.width,
        height=view.height,
        phrases=view.phrases,
    )


FAULTS: tuple[tuple[str, Fault], ...] = (
    ("not_found", _served("/gone")),
    ("icon", _stretched("icon.jpg", 16, 16)),
    ("null_caption", _said("untitled.jpg", None)),
    ("server_error", _served(ERROR)),
    ("html", _file("page.jpg", lambda _: _HTML)),
    ("same_url", lambda good: replace(good, file=None)),
    ("truncated", _file("truncated.jpg", _truncated)),
    ("flat", _file("placeholder.png", _flat)),
    ("null_url", lambda good: replace(good, path=None, file=None)),
    ("slow", _served(SLOW)),
    ("not_found", _served("/gone")),
    ("small_subject", _small_subject),
    ("svg", _file("drawing.svg", lambda _: _SVG)),
    ("blank_caption", _said("blank.jpg", " \t ")),
    ("bomb", _file("bomb.png", _bomb)),
    ("empty", _file("empty.jpg", lambda _: b"")),
    ("same_bytes", lambda good: replace(good, path=f"/mirror{good.path}")),
    ("banner", _stretched("banner.jpg", 6400, 160)),
    ("file_url", lambda good: replace(good, path="file:///etc/hostname", file=None)),
    ("no_subject", _said("sale.jpg", "Free delivery on all orders until Sunday, shop now")),
    ("cut_off", _served(CUT_OFF)),
    ("not_found", _served("/gone")),
    ("endless", _served(ENDLESS)),
)
"""Kind and fault, in the order in which they stand in the table."""
