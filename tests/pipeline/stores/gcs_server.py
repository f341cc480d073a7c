"""As much of Google's storage service, JSON API v1, as gcsfs asks for it; objects lie in memory."""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web

_CANCELLED = 499
"""What the service answers when an upload is given up."""


@dataclass(frozen=True)
class Stored:
    """An object; ``written`` is by the service's clock."""

    data: bytes
    generation: int
    written: str


@dataclass
class Upload:
    """An upload in parts that has begun."""

    name: str
    condition: str | None
    data: bytearray = field(default_factory=bytearray)


@dataclass
class Bucket:
    """One bucket, and the requests that make it up."""

    name: str
    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    conditions: dict[str, str | None] = field(default_factory=dict)
    """By object, ``ifGenerationMatch`` of the last upload that was begun."""
    _count: int = 0

    def routes(self) -> list[web.RouteDef]:
        """What is asked for, by method and path."""
        one = "/storage/v1/b/{bucket}/o/{name}"
        return [
            web.get("/storage/v1/b/{bucket}/o", self.list),
            web.get(one, self.about),
            web.delete(one, self.remove),
            web.get("/download" + one, self.read),
            web.post("/upload/storage/v1/b/{bucket}/o", self.begin),
            web.delete("/upload/storage/v1/b/{bucket}/o", self.give_up),
        ]

    async def list(self, request: web.Request) -> web.Response:
        if request.match_info["bucket"] != self.name:
            return _error(404, "The specified bucket does not exist.")
        prefix, delimiter = request.query.get("prefix", ""), request.query.get("delimiter", "")
        items, prefixes = [], set()
        for name in sorted(name for name in self.objects if name.startswith(prefix)):
            rest = name.removeprefix(prefix)
            if delimiter and delimiter in rest:
                prefixes.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                items.append(self._about(name))
        return web.json_response({"items": items, "prefixes": sorted(prefixes)})

    async def about(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return web.json_response(self._about(name)) if name in self.objects else _error(404, "No such object")

    def _about(self, name: str) -> dict[str, str]:
        stored = self.objects[name]
        about = {"name": name, "bucket": self.name, "size": str(len(stored.data)), "generation": str(stored.generation)}
        return {**about, "updated": stored.written, "timeCreated": stored.written}

    async def read(self, request: web.Request) -> web.Response:
        stored = self.objects.get(request.match_info["name"])
        if stored is None:
            return _error(404, "No such object")
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        if not asked:
            return web.Response(body=stored.data)
        start = int(asked[1]) if asked[1] else max(0, len(stored.data) - int(asked[2]))
        if start >= len(stored.data):
            return _error(416, "Requested range not satisfiable")
        stop = min(int(asked[2]) + 1, len(stored.data)) if asked[1] and asked[2] else len(stored.data)
        return web.Response(status=206, body=stored.data[start:stop])

    async def remove(self, request: web.Request) -> web.Response:
        found = self.objects.pop(request.match_info["name"], None)
        return web.Response(status=204) if found else _error(404, "No such object")

    async def begin(self, request: web.Request) -> web.Response:
        """An upload in one request, or a request of one in parts."""
        if request.match_info["bucket"] != self.name:
            return _error(404, "The specified bucket does not exist.")
        if "upload_id" in request.query:
            return await self._go_on(request)
        body, condition = await request.read(), request.query.get("ifGenerationMatch")
        if request.query["uploadType"] == "resumable":
            name = json.loads(body)["name"]
            self.conditions[name] = condition
            if self._is_taken(name, condition):
                return _error(412, "conditionNotMet")
            self._count += 1
            self.uploads[str(self._count)] = Upload(name, condition)
            place = f"http://{request.host}{request.path}?uploadType=resumable&upload_id={self._count}&name={name}"
            return web.Response(headers={"Location": place})
        _, about, data = body.split(b"--==0==", 2)
        name = json.loads(about.split(b"\n\n", 1)[1])["name"]
        self.conditions[name] = condition
        return self._store(name, condition, data.split(b"\n\n", 1)[1].removesuffix(b"\n--==0==--"))

    async def _go_on(self, request: web.Request) -> web.Response:
        """The next part; the object is there after the last one, and not before."""
        upload = self.uploads.get(request.query["upload_id"])
        if upload is None:
            return _error(404, "No such upload")
        upload.data += await request.read()
        total = request.headers["Content-Range"].rpartition("/")[2]
        if total == "*" or len(upload.data) < int(total):
            return web.Response(status=308, headers={"Range": f"bytes=0-{len(upload.data) - 1}"})
        del self.uploads[request.query["upload_id"]]
        return self._store(upload.name, upload.condition, bytes(upload.data))

    async def give_up(self, request: web.Request) -> web.Response:
        self.uploads.pop(request.query["upload_id"], None)
        return web.Response(status=_CANCELLED)

    def _is_taken(self, name: str, condition: str | None) -> bool:
        return condition == "0" and name in self.objects

    def _store(self, name: str, condition: str | None, data: bytes) -> web.Response:
        if self._is_taken(name, condition):
            return _error(412, "conditionNotMet")
        self._count += 1
        self.objects[name] = Stored(data, self._count, datetime.now(UTC).isoformat().replace("+00:00", "Z"))
        return web.json_response(self._about(name))


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"code": status, "message": message}}, status=status)
