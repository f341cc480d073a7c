"""A server in a process of its own that answers from memory, with or without latency.

``python -m benchmarks.fetch.server FOLDER [LATENCY_S]`` prints its port and serves until its input ends.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from typing_extensions import override

from benchmarks.fetch.pictures import read_pictures


class _Answers(asyncio.Protocol):
    """As little of HTTP/1.1 as keeps connections: the path of a GET or HEAD names a picture by its number."""

    def __init__(self, answers: Sequence[bytes], latency_s: float) -> None:
        self._answers = answers
        self._latency_s = latency_s
        self._asked = bytearray()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        self._asked += data
        while (end := self._asked.find(b"\r\n\r\n")) >= 0:
            method, _, path = self._asked[:end].partition(b" /")
            answer = self._answers[int(path[:5])]
            del self._asked[: end + 4]
            said = answer if method == b"GET" else answer[: answer.index(b"\r\n\r\n") + 4]
            asyncio.get_running_loop().call_later(self._latency_s, self._answer, said)

    def _answer(self, said: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(said)


def _with_head(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _serve(folder: Path, latency_s: float) -> None:
    answers = [_with_head(body) for body in read_pictures(folder)]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Answers(answers, latency_s), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


@contextmanager
def serving(folder: Path, latency_s: float = 0.0) -> Iterator[str]:
    """The address of a server of a folder's pictures, while the context lasts."""
    command = [sys.executable, "-m", "benchmarks.fetch.server", str(folder), str(latency_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        assert server.stdout and server.stdin
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.stdin.close()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2])))
