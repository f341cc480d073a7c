"""Pages of :mod:`tests.stages.web.site`: one for every way to answer."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from urllib.parse import unquote

import pyarrow as pa

from tests.stages.web.site import Page, Reply, Site

BODY = bytes(range(256)) * 400
LIMIT = 2 * len(BODY)
BOMB = bytes(20 * LIMIT)


async def good(site: Site, page: str) -> Reply:
    return Reply([BODY], headers=[("content-length", str(len(BODY)))])


async def chunked(site: Site, page: str) -> Reply:
    return Reply([BODY[:1000], BODY[1000:]])


async def status(site: Site, page: str) -> Reply:
    return Reply([b"sorry"], int(page.split("/")[1]))


async def no_status(site: Site, page: str) -> Reply:
    return Reply([b"sorry"], status="abc")  # type: ignore[arg-type]


async def redirect(site: Site, page: str) -> Reply:
    left = int(page.split("/")[1])
    return Reply(status=302, headers=[("location", f"/redirect/{left - 1}" if left else "/good")])


async def elsewhere(site: Site, page: str) -> Reply:
    """``elsewhere/URL`` leads to a URL, whose slashes are written as ``|``."""
    return Reply(status=302, headers=[("location", unquote(page.partition("/")[2]).replace("|", "/"))])


async def away(site: Site, page: str) -> Reply:
    """``away/ENCODING`` leads to ``grün``, whose letters are sent as they are."""
    path = "/grün".encode(page.split("/")[1]).decode("utf-8", "surrogateescape")
    return Reply(status=302, headers=[("location", path)])


async def empty(site: Site, page: str) -> Reply:
    return Reply()


async def hang(site: Site, page: str) -> Reply:
    await asyncio.sleep(60)
    return Reply()


async def slow(site: Site, page: str) -> Reply:
    site.at_once += 1
    site.most_at_once = max(site.most_at_once, site.at_once)
    try:
        await asyncio.sleep(float(page.split("/")[1]))
    finally:
        site.at_once -= 1
    return Reply([BODY])


async def drip(site: Site, page: str) -> Reply:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.05)

    return Reply(parts())


async def stall(site: Site, page: str) -> Reply:
    async def parts() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        await asyncio.sleep(60)

    return Reply(parts())


async def large(site: Site, page: str) -> Reply:
    async def parts() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    return Reply(parts(), headers=[("content-length", str(LIMIT + 1))])


async def endless(site: Site, page: str) -> Reply:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 2**14

    return Reply(parts())


async def short(site: Site, page: str) -> Reply:
    return Reply([BODY[:1000]], headers=[("content-length", str(len(BODY)))], hangs_up=True)


async def overlong(site: Site, page: str) -> Reply:
    return Reply([BODY], headers=[("content-length", "1000")])


async def bye(site: Site, page: str) -> Reply:
    """Ends the connection for all on it, the first time."""
    return Reply([BODY], ends_connection=site.asked[page] == 1)


async def encoded(site: Site, page: str) -> Reply:
    """``encoded/ENCODING/KIND``."""
    _, encoding, kind = page.split("/")
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = BOMB if kind == "bomb" else BODY
    packed = {
        "gzip": lambda: gzip.compress(body),
        "deflate": lambda: raw.compress(body) + raw.flush() if kind == "raw" else zlib.compress(body),
        "br": lambda: pa.compress(body, "brotli", asbytes=True),
        "zstd": lambda: pa.compress(body, "zstd", asbytes=True),
        "gzip+br": lambda: pa.compress(gzip.compress(body), "brotli", asbytes=True),
        "utf-8": lambda: body,
    }[encoding]()
    packed = {"cut": packed[:-20], "false": b"no such thing"}.get(kind, packed)
    return Reply([packed], headers=[("content-encoding", encoding.replace("+", ", "))])


async def recovers(site: Site, page: str) -> Reply:
    """``recovers/STATUS/TRIES[/RETRY-AFTER]``: good from the given try on."""
    _, code, tries, *after = page.split("/")
    if site.asked[page] < int(tries):
        return Reply(status=int(code), headers=[("retry-after", after[0])] if after else [])
    return Reply([BODY])


async def tagged(site: Site, page: str) -> Reply:
    """``tagged/NAME/VALUE``: a header, and a body that no one should read."""
    _, name, value = page.split("/")

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(2**11):  # more than the system takes off our hands though no one reads
            yield b"x" * 2**14

    return Reply(parts(), headers=[(name, value)])


PAGES: dict[str, Page] = {
    function.__name__: function
    for function in (
        *(good, chunked, status, redirect, elsewhere, empty, hang, slow, drip, stall, large, endless, short),
        *(encoded, recovers, tagged, away, no_status, overlong, bye),
    )
} | {"gr%C3%BCn": good, "gr%FCn": good}
