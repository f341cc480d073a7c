"""A web server in a thread that speaks HTTP/1.1 and HTTP/2, with and without TLS, with a page for every fault."""

import asyncio
import datetime
import ipaddress
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived, StreamReset
from h2.exceptions import ProtocolError

Headers = Sequence[tuple[str, str]]


@dataclass
class Reply:
    """What is answered: by default a whole body.

    ``hangs_up`` ends it after the last part, ``ends_connection`` all that are under way on its connection.
    """

    parts: AsyncIterator[bytes] | Sequence[bytes] = ()
    status: int = 200
    headers: Headers = ()
    hangs_up: bool = False
    ends_connection: bool = False

    async def body(self) -> AsyncIterator[bytes]:
        if isinstance(self.parts, AsyncIterator):
            async for part in self.parts:
                yield part
        else:
            for part in self.parts:
                yield part


Page = Callable[["Site", str], Awaitable[Reply]]


def make_certificate(folder: Path, names: Sequence[str]) -> Path:
    """A key and a certificate that signs itself, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Inlay's tests")])
    alternatives = [x509.DNSName(n) for n in names] + [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pkcs8, clear = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, pkcs8, clear)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@dataclass
class Site:
    """Serves ``pages``, by a path's first part, on two ports of 127.0.0.1; notes what it was asked."""

    pages: dict[str, Page]
    certificate: Path
    protocols: Sequence[str] = ("h2", "http/1.1")
    asked: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    spoken: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    sent: int = 0
    at_once: int = 0
    most_at_once: int = 0
    resets: int = 0

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._servers = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        self.port, self.tls_port = (server.sockets[0].getsockname()[1] for server in self._servers)

    def url(self, page: str, is_secure: bool = False, host: str = "127.0.0.1") -> str:
        return f"https://{host}:{self.tls_port}/{page}" if is_secure else f"http://{host}:{self.port}/{page}"

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> list[asyncio.Server]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(self.certificate)
        tls.set_alpn_protocols(list(self.protocols))
        return [await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context) for context in (None, tls)]

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        tls = writer.get_extra_info("ssl_object")
        is_h2 = tls is not None and tls.selected_alpn_protocol() == "h2"
        try:
            await (_Http2(self, reader, writer).serve() if is_h2 else self._serve_http1(reader, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, ProtocolError):
            pass
        finally:
            writer.transport.abort()

    async def answer(self, path: str, host: str) -> Reply:
        """The page's reply, noted."""
        page = path.strip("/")
        self.asked[page] += 1
        self.hosts[host] += 1
        return await self.pages[page.split("/")[0]](self, page)

    async def _serve_http1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            host = next(line for line in head.split("\r\n") if line.lower().startswith("host:"))[5:].strip()
            self.spoken["http/1.1"] += 1
            reply = await self.answer(head.split()[1], host)
            names = {name.lower() for name, _ in reply.headers}
            is_chunked = "content-length" not in names
            framing = [("transfer-encoding", "chunked")] if is_chunked else []
            lines = "".join(f"{name}: {value}\r\n" for name, value in [*reply.headers, *framing])
            writer.write(f"HTTP/1.1 {reply.status} X\r\n{lines}\r\n".encode("utf-8", "surrogateescape"))
            async for part in reply.body():
                writer.write(b"%x\r\n%b\r\n" % (len(part), part) if is_chunked else part)
                self.sent += len(part)
                await writer.drain()
                await asyncio.sleep(0)
                if writer.transport.is_closing():
                    return
            if reply.hangs_up or reply.ends_connection:
                await writer.drain()
                return
            if is_chunked:
                writer.write(b"0\r\n\r\n")


class _Http2:
    """One connection over HTTP/2: a task for each request, none sending beyond the client's windows."""

    def __init__(self, site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._site = site
        self._reader = reader
        self._writer = writer
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._moved = asyncio.Event()

    async def serve(self) -> None:
        self._h2.initiate_connection()
        self._flush()
        async with asyncio.TaskGroup() as tasks:
            while data := await self._reader.read(2**16):
                for event in self._h2.receive_data(data):
                    if isinstance(event, RequestReceived):
                        self._site.spoken["h2"] += 1
                        headers = {str(name): str(value) for name, value in event.headers or ()}
                        tasks.create_task(self._reply(event.stream_id or 0, headers))
                    elif isinstance(event, StreamReset):
                        self._site.resets += 1
                self._moved.set()
                self._flush()

    async def _reply(self, stream: int, headers: dict[str, str]) -> None:
        try:
            reply = await self._site.answer(headers[":path"], headers[":authority"])
            headers = [(name, value.encode("utf-8", "surrogateescape")) for name, value in reply.headers]
            self._h2.send_headers(stream, [(":status", str(reply.status)), *headers])
            async for part in reply.body():
                await self._send(stream, part)
            if reply.ends_connection:
                self._h2.close_connection()
            elif reply.hangs_up:
                self._h2.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
            else:
                self._h2.end_stream(stream)
            self._flush()
        except ProtocolError:
            pass  # the client has reset the stream

    async def _send(self, stream: int, part: bytes) -> None:
        while part:
            window = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            if not window:
                self._moved.clear()
                await self._moved.wait()
                continue
            self._h2.send_data(stream, part[:window])
            self._site.sent += len(part[:window])
            part = part[window:]
            self._flush()
            await self._writer.drain()
            await asyncio.sleep(0)
            if self._writer.transport.is_closing():
                raise ProtocolError("the client has gone")

    def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())
