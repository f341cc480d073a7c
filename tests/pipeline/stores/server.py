"""A real S3 server in a process of its own, and a proxy before it through which all goes wrong that can."""

import asyncio
import io
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

BUCKET = "shelf"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
ONE_TRY = {"AWS_MAX_ATTEMPTS": "1"}
"""Keeps botocore from trying again, so that it is Inlay that does."""

Kind = Literal["500", "503", "403", "401", "slow", "drop", "lose"]
"""Answered with that status; answered late; connection closed before the request is passed on, or after that."""

_ERRORS = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied", "401": "Unauthorized"}
_SLOW_S = 0.3
_SESSION = web.AppKey("session", ClientSession)
_HOP_HEADERS = {"connection", "transfer-encoding", "content-length", "content-encoding", "date", "server"}


@dataclass
class Fault:
    """What happens to ``count`` of the requests that match: to one in ``every``, drawn by a seed."""

    kind: Kind
    matches: Callable[[str, str], bool] = lambda method, path: True
    count: int = 1
    every: int = 1
    _rng: random.Random = field(default_factory=lambda: random.Random(0))

    def takes(self, method: str, path: str) -> bool:
        if self.count <= 0 or not self.matches(method, path) or self._rng.randrange(self.every):
            return False
        self.count -= 1
        return True


@dataclass
class Proxy:
    """Passes requests on, but for the faults it is told; remembers what was asked for."""

    upstream: str
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    before: Callable[[str, str], None] = lambda method, path: None
    after: Callable[[str, str], None] = lambda method, path: None

    def calm(self) -> None:
        """Forget faults and requests."""
        self.faults, self.requests = [], []
        self.before = self.after = lambda method, path: None

    def asked(self, method: str, part: str = "") -> list[str]:
        """Paths that were asked for by a method and contain a text."""
        return [path for found, path in self.requests if found == method and part in path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, in some way."""
        method, path = request.method, request.raw_path
        self.requests.append((method, path))
        body = await request.read()
        fault = next((fault for fault in self.faults if fault.takes(method, path)), None)
        if fault and fault.kind in _ERRORS:
            return _error(fault.kind)
        if fault and fault.kind == "drop":
            return _drop(request)
        if fault and fault.kind == "slow":
            await asyncio.sleep(_SLOW_S)
        await asyncio.to_thread(self.before, method, path)
        response = await self._pass_on(request, body)
        await asyncio.to_thread(self.after, method, path)
        return _drop(request) if fault and fault.kind == "lose" else response

    async def _pass_on(self, request: web.Request, body: bytes) -> web.StreamResponse:
        url = URL(self.upstream + request.raw_path, encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
        async with request.app[_SESSION].request(request.method, url, data=io.BytesIO(body), headers=headers) as answer:
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_HEADERS]
            data = await answer.read()
            response = web.Response(status=answer.status, headers=dict(kept), body=data)
            if request.method == "HEAD":
                response.headers["Content-Length"] = answer.headers.get("Content-Length", "0")
            return response


def _error(status: Kind) -> web.Response:
    code = _ERRORS[status]
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}, says the proxy</Message></Error>'
    return web.Response(status=int(status), text=text, content_type="application/xml")


def _drop(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@contextmanager
def proxying(upstream: str) -> Iterator[Proxy]:
    """A proxy on 127.0.0.1 while the context lasts."""
    proxy = Proxy(upstream)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{tail:.*}", proxy.handle)

    async def open_session(app: web.Application) -> AsyncIterator[None]:
        app[_SESSION] = ClientSession(
            timeout=ClientTimeout(60), connector=TCPConnector(force_close=True), auto_decompress=False
        )
        yield
        await app[_SESSION].close()

    app.cleanup_ctx.append(open_session)
    with serving(app) as proxy.url:
        yield proxy


@contextmanager
def serving(app: web.Application) -> Iterator[str]:
    """The application on a free port of 127.0.0.1, in a thread of its own; yields its URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(_start(app), loop).result(30)
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """Moto's S3 server as a process of its own; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("w") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env={**os.environ, **CREDENTIALS})
    try:
        _await_port(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _await_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the S3 server ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the S3 server does not answer")
