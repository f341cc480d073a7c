"""An HTTP server of a folder on this machine, with ranges and listings, that fails when told to."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any


class Faults:
    """What the server does to requests: each ``every``-th ``GET`` of a file fails in one of the ways, in turn."""

    def __init__(self, every: int = 0, ways: tuple[str, ...] = ("503", "reset", "short")) -> None:
        self.every, self.ways, self.count, self.failed = every, ways, 0, 0
        self.lock = Lock()

    def next(self) -> str:
        with self.lock:
            self.count += 1
            if not self.every or self.count % self.every:
                return ""
            self.failed += 1
            return self.ways[self.failed % len(self.ways)]


def _handler(root: Path, faults: Faults) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(has_body=False)

        def do_GET(self) -> None:
            self.answer(has_body=True)

        def answer(self, has_body: bool) -> None:
            path = root / self.path.strip("/")
            if path.is_dir():
                links = "".join(f'<a href="{name}">{name}</a>\n' for name in sorted(os.listdir(path)))
                self.give(200, links.encode(), {"Content-Type": "text/html"}, has_body)
            elif not path.is_file():
                self.give(404, b"", {}, has_body)
            else:
                self.give_file(path, faults.next() if has_body else "", has_body)

        def give_file(self, path: Path, fault: str, has_body: bool) -> None:
            data = path.read_bytes()
            headers = {"ETag": f'"{path.stat().st_mtime_ns}"', "Accept-Ranges": "bytes"}
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            status = 200
            if wanted:
                start, last = int(wanted[1]), int(wanted[2])
                headers["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
                status, data = (206, data[start : last + 1]) if start < len(data) else (416, b"")
            if fault == "503":
                return self.give(503, b"", {}, has_body)
            if fault == "reset":
                self.close_connection = True
                return None
            self.give(status, data, headers, has_body, is_short=fault == "short")

        def give(
            self, status: int, data: bytes, headers: dict[str, str], has_body: bool, is_short: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if has_body:
                self.wfile.write(data[: len(data) // 2] if is_short else data)
            self.close_connection = self.close_connection or is_short

        def log_message(self, format: str, *values: Any) -> None:
            """Quiet."""

    return Handler


@contextmanager
def served(root: Path, faults: Faults | None = None) -> Iterator[str]:
    """The URL of a folder, while it is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(root, faults or Faults()))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
