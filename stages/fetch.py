"""Fetch: download what a record's URL points at, with bounds on time and size."""

import asyncio
import hashlib
import re
import socket
import weakref
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import aiohttp
from aiohttp.abc import AbstractResolver
from pydantic import Field
from typing_extensions import override
from yarl import URL

from stages.base import Context, Drop, Fail, Params, Stage, record_rng


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchIn:
    """What ``fetch`` reads."""

    key: str
    url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOut:
    """What ``fetch`` writes: the file as it came, and its hex digest."""

    original: bytes
    sha256: str


class FetchParams(Params):
    """How long, how much, how many at once."""

    in_flight: int = Field(64, ge=1, le=4096, description="Downloads at once in a worker.")
    timeout_s: float = Field(
        20, gt=0, le=3600, description="Seconds for one URL in all: connecting, redirects, body, pauses and retries."
    )
    max_bytes: int = Field(32 * 2**20, ge=1, le=2**30, description="Largest file, counted after decompression too.")
    max_redirects: int = Field(5, ge=0, le=20, description="Redirects that are followed.")
    retries: int = Field(
        2, ge=0, le=10, description="More tries after a failed connection, or status 408, 425, 429, 5xx."
    )
    backoff_s: float = Field(
        0.5,
        ge=0,
        le=60,
        description="Pause before the first retry, in seconds; it doubles each time, give or take half.",
    )
    user_agent: str = Field(
        "Mozilla/5.0 (compatible; Inlay/0.1)", pattern=r"^[\x20-\x7e]+$", description="What servers are told we are."
    )


class FetchError(Exception):
    """A URL that gave no file.

    Attributes:
        reason: One of ``Fetch.reasons``.
        is_passing: Another try may do better.
    """

    def __init__(self, reason: str, message: str, is_passing: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.is_passing = is_passing


_SENDABLE = re.compile(r"(?:[!#$&-;=?-Z\[\]_a-z~]|%[0-9A-Fa-f]{2})+")
"""Characters a URL may have, and escapes. One of only these is not normalised, since many are signed as they stand."""


def check_url(text: str, base: URL | None = None) -> URL:
    """The URL to ask for: as it is if it may be sent so, else percent-encoded and with its host in IDNA.

    Args:
        text: A URL as metadata or a ``Location`` header has it.
        base: What a relative one is relative to.

    Raises:
        FetchError: ``bad_url``, or ``scheme_refused`` if it is neither http nor https.
    """
    try:
        text = text.strip()
        is_ready = bool(_SENDABLE.fullmatch(text)) and "/./" not in text and "/../" not in text
        url = URL(text, encoded=is_ready)
        url = base.join(url) if base else url
        has_address = bool(url.host and url.port)
    except ValueError as error:
        raise FetchError("bad_url", f"{text!r} is no URL: {error}") from error
    if url.scheme not in ("http", "https"):
        raise FetchError("scheme_refused" if url.scheme else "bad_url", f"{text!r} is neither http nor https")
    if not has_address:
        raise FetchError("bad_url", f"{text!r} names no host and port")
    return url


class Fetch(Stage[FetchIn, FetchOut]):
    """Download every record's URL, many at once, each within one deadline and one size.

    Connections and DNS answers are kept from batch to batch. Redirects are followed by hand, so that every hop is
    checked as the first URL was.
    """

    In, Out, Params = FetchIn, FetchOut, FetchParams
    reasons: ClassVar[Mapping[str, str]] = {
        "no_url": "The metadata has no URL.",
        "bad_url": "The URL, or one it redirects to, is malformed.",
        "scheme_refused": "The URL, or one it redirects to, is neither http nor https.",
        "timeout": "Not done within `timeout_s`.",
        "dns": "The host's name has no address.",
        "connect": "The connection was refused, reset or closed before an answer.",
        "tls": "No secure connection: certificate or protocol.",
        "too_many_redirects": "More redirects than `max_redirects`.",
        "http_403": "Status 403, forbidden.",
        "http_404": "Status 404, not found.",
        "http_429": "Status 429, too many requests.",
        "http_4xx": "Another status from 400 to 499.",
        "http_5xx": "A status from 500 to 599.",
        "too_large": "More than `max_bytes`.",
        "empty": "A body of no bytes.",
        "short_body": "The body ended before its stated length.",
        "bad_response": "The answer breaks HTTP, or is of a kind that was not asked for.",
    }

    def __init__(self, params: FetchParams, seed: int, resolver: AbstractResolver | None = None) -> None:
        self.params = params
        self._seed = seed
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._session = self._runner.run(_open_session(params, resolver))
        self._close = weakref.finalize(self, _close, self._runner, self._session)

    @override
    @classmethod
    def load(cls, params: FetchParams, context: Context) -> "Fetch":
        return cls(params, context.seed)

    def close(self) -> None:
        """Close the connections; done too when the stage is no longer used, or the process ends."""
        self._close()

    @override
    def process(self, batch: Sequence[FetchIn]) -> list[FetchOut | Drop | Fail]:
        return self._runner.run(self._fetch_all(batch))

    async def _fetch_all(self, batch: Sequence[FetchIn]) -> list[FetchOut | Drop | Fail]:
        slots = asyncio.Semaphore(self.params.in_flight)
        fetches = [self._fetch(record, slots) for record in batch]
        results: list[FetchOut | Drop | Fail] = []
        for result in await asyncio.gather(*fetches, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
            results.append(result)
        return results

    async def _fetch(self, record: FetchIn, slots: asyncio.Semaphore) -> FetchOut | Fail:
        if record.url is None:
            return Fail("no_url", "the record has no URL")
        async with slots:
            try:
                async with asyncio.timeout(self.params.timeout_s) as deadline:
                    body = await self._insist(check_url(record.url), record.key, deadline)
            except TimeoutError:
                return Fail("timeout", f"{record.url}: not done within {self.params.timeout_s} s")
            except FetchError as error:
                return Fail(error.reason, f"{record.url}: {error}")
        return FetchOut(original=body, sha256=hashlib.sha256(body).hexdigest())

    async def _insist(self, url: URL, key: str, deadline: asyncio.Timeout) -> bytes:
        """Try until it works, can't work, or the next pause would end after the deadline."""
        rng = record_rng(self._seed, key, "fetch")
        for attempt in range(self.params.retries):
            try:
                return await self._follow(url)
            except FetchError as error:
                pause = self.params.backoff_s * 2**attempt * rng.uniform(0.5, 1.5)
                if not error.is_passing or asyncio.get_running_loop().time() + pause > (deadline.when() or 0):
                    raise
            await asyncio.sleep(pause)
        return await self._follow(url)

    async def _follow(self, url: URL) -> bytes:
        with _classified():
            for _ in range(self.params.max_redirects + 1):
                async with self._session.get(url, allow_redirects=False) as response:
                    if response.status not in _REDIRECTS or "Location" not in response.headers:
                        return await self._read(response)
                    url = check_url(response.headers["Location"], base=url)
        raise FetchError("too_many_redirects", f"still redirected after {self.params.max_redirects} hops, to {url}")

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        _check_status(response.status)
        limit = self.params.max_bytes
        if (response.content_length or 0) > limit:
            raise FetchError("too_large", f"{response.content_length} bytes stated; max_bytes is {limit}")
        body = bytearray()
        async for chunk in response.content.iter_chunked(2**16):
            body += chunk
            if len(body) > limit:
                raise FetchError("too_large", f"more than max_bytes, {limit}")
        if not body:
            raise FetchError("empty", f"status {response.status} with no body")
        return _decompress(bytes(body), response.headers.get("Content-Encoding", "").strip().lower(), limit)


_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})


def _check_status(status: int) -> None:
    if status in (200, 203, 204):
        return
    if status in (403, 404, 429):
        reason = f"http_{status}"
    else:
        reason = {4: "http_4xx", 5: "http_5xx"}.get(status // 100, "bad_response")
    raise FetchError(reason, f"status {status}", is_passing=status in _PASSING or reason == "http_5xx")


def _decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a content encoding that was not asked for, never making more than ``limit`` bytes."""
    if encoding in ("br", "zstd", "compress"):
        raise FetchError("bad_response", f"content encoding {encoding!r}, though only identity was accepted")
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return body  # as browsers do: stores serve pictures as "utf-8", "base64" or "binary", and mean nothing by it
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise FetchError("bad_response", f"not {encoding}, as it says: {error}") from error
    if len(plain) > limit:
        raise FetchError("too_large", f"more than max_bytes, {limit}, when decompressed")
    if not inflater.eof:
        raise FetchError("short_body", f"the {encoding} stream ends early")
    return plain


@contextmanager
def _classified() -> Iterator[None]:
    """Turn aiohttp's exceptions into ours."""
    try:
        yield
    except aiohttp.ClientConnectorDNSError as error:
        raise FetchError("dns", str(error), is_passing=error.os_error.errno == socket.EAI_AGAIN) from error
    except aiohttp.ClientSSLError as error:
        raise FetchError("tls", str(error)) from error
    except aiohttp.ClientPayloadError as error:
        raise FetchError("short_body", str(error)) from error
    except (aiohttp.InvalidURL, UnicodeError) as error:
        raise FetchError("bad_url", str(error)) from error
    except aiohttp.ClientConnectionError as error:
        raise FetchError("connect", str(error), is_passing=True) from error
    except aiohttp.ClientError as error:
        raise FetchError("bad_response", str(error)) from error


async def _open_session(params: FetchParams, resolver: AbstractResolver | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=params.in_flight, ttl_dns_cache=300, resolver=resolver),
        headers={"User-Agent": params.user_agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),  # the stage's own deadline is over all tries
        auto_decompress=False,
    )


def _close(runner: asyncio.Runner, session: aiohttp.ClientSession) -> None:
    runner.run(session.close())
    runner.close()
