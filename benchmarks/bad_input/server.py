"""The server of the scorecard: ``python -m benchmarks.bad_input.server SECRET`` prints its port and serves.

A path is ``/CONTENDER/SERVE/FILE/SEED``: who asks, what the server does, and which file it is about. It listens on two
loopback addresses, of which a contender may be allowed the first only.
"""

import asyncio
import contextlib
import sys
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from benchmarks.bad_input.cases import Serve
from benchmarks.bad_input.pictures import gzipped, make

HOST, SECOND_HOST = "127.0.0.1", "127.0.0.2"
_ENDLESS_BYTES = 400_000_000
_RETRY_AFTER_S = 1
_PHRASES = {200: "OK", 302: "Found", 404: "Not Found", 429: "Too Many Requests", 500: "Error", 503: "Unavailable"}


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        path: With the contender first.
        data: The file.
        before_s: Seconds since this path was first asked for; ``None`` if it is now.
    """

    path: str
    data: bytes
    before_s: float | None


Send = Callable[[asyncio.StreamWriter, Request], Awaitable[None]]


def _reply(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} {_PHRASES[status]}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _with(*headers: str) -> Send:
    async def send(writer: asyncio.StreamWriter, request: Request) -> None:
        writer.write(_reply(200, request.data, *headers))

    return send


def _status(status: int, *headers: str) -> Send:
    async def send(writer: asyncio.StreamWriter, request: Request) -> None:
        writer.write(_reply(status, b"sorry", *headers))

    return send


def _at_first(status: int, wait_s: float, *headers: str) -> Send:
    """A status until it is asked for again after ``wait_s``, then the file."""

    async def send(writer: asyncio.StreamWriter, request: Request) -> None:
        is_time = request.before_s is not None and request.before_s >= wait_s
        writer.write(_reply(200, request.data) if is_time else _reply(status, b"later", *headers))

    return send


async def _gzip(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(_reply(200, gzipped(request.data), "Content-Encoding: gzip"))


async def _empty(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(_reply(200, b""))


async def _short(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(_reply(200, request.data)[: -len(request.data) // 3])


async def _endless(writer: asyncio.StreamWriter, request: Request) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + request.data)
    chunk = bytes(2**16)
    for _ in range(_ENDLESS_BYTES // len(chunk)):
        writer.write(chunk)
        await writer.drain()


async def _drip(writer: asyncio.StreamWriter, request: Request) -> None:
    whole = _reply(200, request.data)
    start = len(whole) - len(request.data)
    writer.write(whole[:start])
    for byte in request.data:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(1)


async def _hang(writer: asyncio.StreamWriter, request: Request) -> None:
    await asyncio.sleep(3600)


def _behaviours(port: int, secret: str) -> Mapping[Serve, Send]:
    private = f"http://{SECOND_HOST}:{port}/secret/plain/jpeg/77"
    return {
        Serve.PLAIN: _with(),
        Serve.AS_JPEG: _with("Content-Type: image/jpeg"),
        Serve.EMPTY: _empty,
        Serve.SHORT: _short,
        Serve.ENDLESS: _endless,
        Serve.DRIP: _drip,
        Serve.HANG: _hang,
        Serve.LOOP: lambda writer, request: _status(302, f"Location: {request.path}")(writer, request),
        Serve.TO_PRIVATE: _status(302, f"Location: {private}"),
        Serve.TO_LINK_LOCAL: _status(302, "Location: http://169.254.169.254/a.jpg"),
        Serve.TO_FILE: _status(302, f"Location: file://{secret}"),
        Serve.GZIP: _gzip,
        Serve.STATUS_404: _status(404),
        Serve.STATUS_500: _status(500),
        Serve.ONCE_503: _at_first(503, 0),
        Serve.ONCE_429: _at_first(429, _RETRY_AFTER_S, f"Retry-After: {_RETRY_AFTER_S}"),
        Serve.NOAI: _with("X-Robots-Tag: noai, noimageai"),
        Serve.OTHER_BOT: _with("X-Robots-Tag: somebodyelsesbot: noai"),
        Serve.RESERVED: _with("TDM-Reservation: 1"),
    }


async def serve(secret: str, announce: Callable[[int], None]) -> None:
    """Serve until cancelled; ``announce`` is told the port. ``secret`` is the file that one redirect leads to."""
    first_asked: dict[str, float] = {}
    behaviours: Mapping[Serve, Send] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = urllib.parse.urlsplit(head.split(b" ")[1].decode("ascii", "replace")).path
            now = time.monotonic()
            before = now - first_asked[path] if path in first_asked else None
            first_asked.setdefault(path, now)
            _, _, what, kind, seed = path.split("/")
            await behaviours[Serve(what)](writer, Request(path, make(kind, int(seed)).data, before))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    behaviours = _behaviours(port, secret)
    second = await asyncio.start_server(answer, SECOND_HOST, port)
    announce(port)
    async with server, second:
        await server.serve_forever()


def _announce(port: int) -> None:
    print(port, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1], _announce))
