"""A small web server on 127.0.0.1 for the demo's pictures, with some of the web's bad manners.

``python -m pipeline.demo.server FOLDER PORT`` keeps it up until Ctrl-C.
"""

import argparse
import errno
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import Any

from typing_extensions import override

HOST = "127.0.0.1"
PORTS = range(8641, 8741)
"""Where a port is looked for: below what systems give to outgoing connections, and the same on every machine."""

PICTURES = "pictures"
"""Name of the folder that is served."""

ERROR = "/error"
SLOW = "/slow"
CUT_OFF = "/cut-off"
ENDLESS = "/endless"
MOVED = "/moved"

SLOW_S = 20.0
"""Seconds an answer under ``SLOW`` takes; more than any client of the demo waits."""
ENDLESS_BYTES = 10**12
"""Length of what an answer under ``ENDLESS`` claims to have."""


class PortTakenError(OSError):
    """Something else listens on the port."""


@contextmanager
def serve(folder: Path, port: int) -> Iterator[None]:
    """Serve the pictures of :func:`pipeline.demo.rows.build` while the context lasts.

    Args:
        folder: What ``build`` was given.
        port: What ``build`` was given.

    Raises:
        FileNotFoundError: If nothing was built there.
        PortTakenError: If something else listens on the port.
    """
    pictures = folder / PICTURES
    if not pictures.is_dir():
        raise FileNotFoundError(f"{pictures} is missing: build the demo's data first")
    server = _listen(pictures, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def choose_port(folder: Path) -> int:
    """The port kept in ``folder`` if it is free, or else a free one, which is then kept.

    With another port the URLs, and so the table, are others: build again.

    Raises:
        PortTakenError: If no port is free.
    """
    file = folder / "port"
    kept = file.read_text().strip() if file.is_file() else ""
    wanted = [int(kept)] if kept.isdecimal() else []
    port = next(filter(_is_free, chain(wanted, PORTS)), None)
    if port is None:
        raise PortTakenError(f"no port from {PORTS.start} to {PORTS.stop - 1} of {HOST} is free: stop another server")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{port}\n")
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def _listen(pictures: Path, port: int) -> "_Server":
    try:
        return _Server((HOST, port), partial(_Answer, directory=str(pictures)))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortTakenError(error.errno, f"port {port} of {HOST} is taken: stop what listens there") from None


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], answer: Callable[..., "_Answer"]) -> None:
        super().__init__(address, answer)
        self.closing = threading.Event()

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Answer(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".svg": "image/svg+xml", ".webp": "image/webp"}  # noqa: RUF012
    server: _Server

    @override
    def do_GET(self) -> None:
        prefix = "/" + self.path.split("/")[1]
        _MANNERS.get(prefix, SimpleHTTPRequestHandler.do_GET)(self)

    @override
    def list_directory(self, path: Any) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        pass

    def redirect(self) -> None:
        """Answer that the picture has moved."""
        self.send_response(HTTPStatus.MOVED_PERMANENTLY)
        self.send_header("Location", self.path.removeprefix(MOVED))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def fail(self) -> None:
        """Answer that the server is broken."""
        self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)

    def dawdle(self) -> None:
        """Answer after a long while."""
        self.server.closing.wait(SLOW_S)
        self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)

    def hang_up(self) -> None:
        """Promise a picture, and close the connection after its first bytes."""
        self._promise(100_000)
        self.wfile.write(b"\xff\xd8\xff\xe0" + bytes(1000))

    def boast(self) -> None:
        """Promise more than anyone would take."""
        self._promise(ENDLESS_BYTES)

    def _promise(self, length: int) -> None:
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(length))
        self.end_headers()


_MANNERS: Mapping[str, Callable[[_Answer], None]] = {
    ERROR: _Answer.fail,
    SLOW: _Answer.dawdle,
    CUT_OFF: _Answer.hang_up,
    ENDLESS: _Answer.boast,
    MOVED: _Answer.redirect,
}


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.demo.server", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder that the demo's data was built in")
    parser.add_argument("port", type=int, help="port that it was built for")
    arguments = parser.parse_args()
    with serve(arguments.folder, arguments.port):
        print(f"serving {arguments.folder} on http://{HOST}:{arguments.port}; stop with Ctrl-C", file=sys.stderr)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
