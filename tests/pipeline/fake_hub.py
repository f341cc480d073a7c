"""A model hub on 127.0.0.1 with the few endpoints that downloading needs; it notes what was asked of it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Models, each at ``COMMIT`` under the names ``main``, ``v1`` and ``COMMIT``.

    Attributes:
        models: Files of each model.
        served: Paths of files whose bytes were sent, in order.
        asked: Number of requests of any kind.
        cut_once: Files of which the first answer breaks off in the middle.
    """

    models: Mapping[str, dict[str, bytes]]
    served: list[str] = field(default_factory=list)
    asked: int = 0
    cut_once: set[str] = field(default_factory=set)
    url: str = ""

    @contextmanager
    def running(self) -> Iterator["FakeHub"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def is_large(path: str) -> bool:
    return not path.endswith((".json", ".txt"))


def oids(path: str, data: bytes) -> dict[str, Any]:
    """What the hub tells of a file: git's SHA-1, and SHA-256 of a large one."""
    plain: dict[str, Any] = {"size": len(data), "git": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
    return plain | ({"sha256": hashlib.sha256(data).hexdigest()} if is_large(path) else {})


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.asked += 1
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if is_api else parts[:2])
        rest = parts[4:] if is_api else parts[2:]
        files = self.hub.models.get(name)
        if files is None:
            self._answer(404, error="RepoNotFound")
        elif len(rest) > 1 and rest[1] not in (COMMIT, "main", "v1"):
            self._answer(404, error="RevisionNotFound")
        elif is_api:
            self._answer(200, json.dumps(_tree(files) if rest[:1] == ["tree"] else _info(name, files)).encode())
        else:
            self._file("/".join(rest[2:]), files)

    def _file(self, path: str, files: Mapping[str, bytes]) -> None:
        if path not in files:
            self._answer(404, error="EntryNotFound")
            return
        told = oids(path, files[path])
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if self.command == "GET":
            self.hub.served.append(path)
        self._answer(206 if start else 200, files[path][start:], etag=told.get("sha256", told["git"]), path=path)

    def _answer(self, status: int, body: bytes = b"", *, error: str = "", etag: str = "", path: str = "") -> None:
        self.send_response(status)
        headers = {
            "Content-Length": str(len(body)),
            "X-Repo-Commit": COMMIT,
            "ETag": f'"{etag}"',
            "X-Error-Code": error,
        }
        for name, value in headers.items():
            if value.strip('"'):
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            if path in self.hub.cut_once:
                self.hub.cut_once.remove(path)
                body, self.close_connection = body[: len(body) // 2], True
            self.wfile.write(body)


def _info(name: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    siblings = []
    for path, data in files.items():
        told = oids(path, data)
        lfs = {"sha256": told["sha256"], "size": len(data), "pointerSize": 130} if "sha256" in told else None
        siblings.append({"rfilename": path, "size": len(data), "blobId": told["git"]} | ({"lfs": lfs} if lfs else {}))
    return {"id": name, "sha": COMMIT, "siblings": siblings}


def _tree(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    entries = []
    for path, data in files.items():
        told = oids(path, data)
        lfs = {"oid": told["sha256"], "size": len(data), "pointerSize": 130} if "sha256" in told else None
        entry = {"type": "file", "path": path, "size": len(data), "oid": told["git"]}
        entries.append(entry | ({"lfs": lfs} if lfs else {}))
    return entries
