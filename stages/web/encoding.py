"""Content encodings, undone without ever making more than a given number of bytes."""

import zlib
from collections.abc import Callable, Sequence

import pyarrow as pa

from stages.web.reasons import FetchError


def decode_body(body: bytes, encodings: Sequence[str], limit: int) -> bytes:
    """A body without its content encodings.

    An encoding that is unknown is passed over, as browsers do: stores serve pictures as "utf-8", "base64" or "binary",
    and mean nothing by it.

    Args:
        body: As it came.
        encodings: Values of ``Content-Encoding``, in order.
        limit: Most bytes that may come out, after any of them.

    Raises:
        FetchError: ``too_large``; ``short_body`` if a stream ends early; ``bad_response`` if it is none.
    """
    names = [name.strip().lower() for value in encodings for name in value.split(",")]
    for name in reversed(names):
        if name in _DECODERS:
            body = _DECODERS[name](body, limit)
            if len(body) > limit:
                raise FetchError("too_large", f"more than max_bytes, {limit}, when decompressed")
    return body


def _by_arrow(codec: str) -> Callable[[bytes, int], bytes]:
    def decompress(body: bytes, limit: int) -> bytes:
        try:
            with pa.CompressedInputStream(pa.BufferReader(body), codec) as stream:
                return bytes(stream.read(limit + 1))
        except OSError as error:
            reason = "short_body" if "Truncated" in str(error) else "bad_response"
            raise FetchError(reason, f"not {codec}, as it says: {error}") from error

    return decompress


def _inflate(body: bytes, limit: int) -> bytes:
    """Undo ``deflate``, which is zlib's format by RFC 9110, and bare by old servers' error."""
    is_zlib = len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    inflater = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise FetchError("bad_response", f"not deflate, as it says: {error}") from error
    if len(plain) <= limit and not inflater.eof:
        raise FetchError("short_body", "the deflate stream ends early")
    return plain


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _by_arrow("gzip"),
    "x-gzip": _by_arrow("gzip"),
    "br": _by_arrow("brotli"),
    "zstd": _by_arrow("zstd"),
    "deflate": _inflate,
}
