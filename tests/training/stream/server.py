"""A file server on this machine that fails, dawdles and lies on demand."""

import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from training.stream.storage import Patience

QUICK = Patience(deadline_s=20, attempt_timeout_s=10, first_wait_s=0.01, max_wait_s=0.02)


class FileServer(ThreadingHTTPServer):
    """Serves ``files`` by range. ``faults`` are taken one a request: a status, ``cut``, ``hang`` or ``none``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.faults: deque[int | str] = deque()
        self.ranges: list[tuple[int, int]] = []
        self.requests = 0
        self.delay_s = 0.0
        self.knows_ranges = True
        self.resume = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        self.server.requests += 1
        time.sleep(self.server.delay_s)
        fault = self.server.faults.popleft() if self.server.faults else None
        if fault == "hang":
            self.server.resume.wait(60)
        name = self.path.removeprefix("/data/").removeprefix("/data")
        if isinstance(fault, int):
            return self._send(fault, b"")
        if name not in self.server.files:
            return self._list(name)
        data = self.server.files[name]
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and self.server.knows_ranges:
            start, stop = int(asked[1]), int(asked[2]) + 1
            self.server.ranges.append((start, stop))
            if start >= len(data):
                return self._send(416, b"")
            return self._send(206, data[start:stop], cut=fault == "cut")
        self._send(200, data, with_body, cut=fault == "cut")

    def _list(self, folder: str) -> None:
        below = f"{folder}/".lstrip("/")
        names = sorted({name[len(below) :].split("/")[0] for name in self.server.files if name.startswith(below)})
        page = "".join(f'<a href="/data/{below}{name}">{name}</a>' for name in names)
        self._send(200 if names else 404, page.encode())

    def _send(self, status: int, body: bytes, with_body: bool = True, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hash(body)}"')
        self.end_headers()
        if with_body:
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server while the block runs."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.resume.set()
        server.shutdown()
        thread.join()
        server.server_close()
