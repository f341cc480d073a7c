"""HTTP/2 where a server offers it, by h2; HTTP/1.1 elsewhere."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from yarl import URL

from stages.web.h2_connection import H2Connection, StreamLostError
from stages.web.http1 import Http1, of_lookup, raise_if_ours
from stages.web.names import Names
from stages.web.reasons import FetchError
from stages.web.tls import verifying_context
from stages.web.transport import Answer, Wire
from stages.web.url import authority

_PROTOCOLS = ("h2", "http/1.1")
_MOST_KEPT = 20_000


@dataclass(slots=True)
class _Server:
    """What is known of a secure server: whether it may speak HTTP/2, and the connections to it."""

    may_speak_h2: bool = True
    connections: list[H2Connection] = field(default_factory=list)
    connecting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_in_use(self) -> bool:
        """Whether there is a connection to it, or one is being made."""
        return self.connecting.locked() or not all(connection.is_closed for connection in self.connections)

    def open_connection(self) -> H2Connection | None:
        """One that can take another request, as long as the server keeps to HTTP/2's rules."""
        self.may_speak_h2 &= not any(connection.is_at_odds for connection in self.connections)
        self.connections = [connection for connection in self.connections if not connection.is_closed]
        usable = self.connections if self.may_speak_h2 else ()
        return next((connection for connection in usable if connection.has_room), None)


class Http2:
    """Asks over HTTP/2, many requests on one connection, whoever agrees to it in TLS.

    A server that does not, and any ``http://``, is asked over HTTP/1.1; to find out costs one connection per server. So
    is one that broke HTTP/2's rules: over HTTP/1.1 a wrong answer is no one else's.
    To be made inside a running event loop.
    """

    def __init__(self, wire: Wire, names: Names) -> None:
        self._wire = wire
        self._names = names
        self._http1 = Http1(wire, names)
        self._tls = verifying_context(wire.ca_file, _PROTOCOLS)
        self._servers: dict[str, _Server] = {}

    @asynccontextmanager
    async def get(self, url: URL) -> AsyncIterator[Answer]:
        """As :class:`stages.web.transport.Transport` says."""
        connection = await self._connection(url) if url.scheme == "https" else None
        if connection is None:
            async with self._http1.get(url) as answer:
                yield answer
            return
        try:
            async with connection.get(url, self._wire.headers) as answer:
                yield answer
        except StreamLostError as error:
            raise FetchError("connect", str(error), is_passing=True, is_shared=error.is_shared) from error

    async def close(self) -> None:
        """Close all connections."""
        for server in self._servers.values():
            for connection in server.connections:
                await connection.close()
        await self._http1.close()

    async def _connection(self, url: URL) -> H2Connection | None:
        """An open connection with room, or a new one; ``None`` if the server does not speak HTTP/2."""
        if len(self._servers) >= _MOST_KEPT:
            self._servers = {name: server for name, server in self._servers.items() if server.is_in_use}
        server = self._servers.setdefault(authority(url), _Server())
        async with server.connecting:
            connection = server.open_connection()
            if connection is None and server.may_speak_h2:
                connection = await self._connect(url)
                server.may_speak_h2 = connection is not None
                server.connections += [connection] if connection else []
            return connection

    async def _connect(self, url: URL) -> H2Connection | None:
        self._names.check_literal(url.raw_host or "", url.port or 0)
        try:
            async with asyncio.timeout(self._wire.connect_s):
                return await self._connect_to_any(url.raw_host or "", url.port or 443)
        except TimeoutError as error:
            raise FetchError("timeout", "no connection within connect_s", is_passing=True) from error
        except ssl.SSLError as error:
            raise FetchError("tls", str(error)) from error
        except OSError as error:
            raise_if_ours(error)
            raise FetchError("connect", str(error), is_passing=True) from error

    async def _connect_to_any(self, host: str, port: int) -> H2Connection | None:
        """Connect to the first of a host's addresses that answers."""
        error: OSError | None = None
        for address in await self._addresses(host, port):
            try:
                return await self._open(host, address, port)
            except ssl.SSLError:
                raise
            except OSError as unreachable:
                error = unreachable
        raise error or OSError(f"{host} has no address")

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            return [result["host"] for result in await self._names.resolve(host, port)]
        except OSError as error:
            raise of_lookup(error) from error

    async def _open(self, host: str, address: str, port: int) -> H2Connection | None:
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_connection(
            H2Connection, address, port, ssl=self._tls, server_hostname=host
        )
        tls = transport.get_extra_info("ssl_object")
        if tls.selected_alpn_protocol() == "h2":
            return connection
        transport.abort()
        return None
