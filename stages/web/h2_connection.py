"""One HTTP/2 connection: requests beside each other on it, each with its own answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection as Protocol
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from typing_extensions import override
from yarl import URL

from stages.web.reasons import FetchError
from stages.web.transport import KEPT_S, Answer

_WINDOW = 2**20
"""Bytes of one body that a server may send before we have read them."""

_CONNECTION_WINDOW = 2**24
"""Likewise of all bodies of a connection."""

_HEADERS = 2**16
"""Most bytes of an answer's headers."""

_SETTINGS: dict[SettingCodes | int, int] = {
    SettingCodes.ENABLE_PUSH: 0,
    SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
    SettingCodes.MAX_HEADER_LIST_SIZE: _HEADERS,
}


class StreamLostError(Exception):
    """One request, or if ``is_shared`` the connection with all on it, ended before an answer came."""

    def __init__(self, why: str, is_shared: bool) -> None:
        super().__init__(why)
        self.is_shared = is_shared


@dataclass(eq=False, slots=True)
class _Stream:
    """A request's answer as it comes. Parts are empty at the end, and carry the error if there is one."""

    head: "asyncio.Future[tuple[int, list[tuple[str, str]]]]"
    asked_at: float
    parts: "asyncio.Queue[tuple[bytes, int] | FetchError]" = field(default_factory=asyncio.Queue)
    is_ended: bool = False

    def lose(self, why: str, is_shared: bool) -> None:
        """Tell whoever waits that no more comes."""
        self.is_ended = True
        if not self.head.done():
            self.head.set_exception(StreamLostError(why, is_shared))
            self.head.exception()  # whoever waited may have given up
        self.parts.put_nowait(FetchError("short_body", why, is_passing=True, is_shared=is_shared))


class H2Connection(asyncio.Protocol):
    """An asyncio protocol around h2's state machine.

    One that is not used for a while is closed. One over which nothing came since a request that was given up takes no
    other: the way to the server may be gone.

    What is read is acknowledged to the server, so that no more of a body than a window lies in memory unread. A body
    that is given up is reset, and its bytes still on the way count as read.

    Attributes:
        is_closed: It takes no more requests.
        is_at_odds: The server broke HTTP/2's rules, by one answer perhaps, whose stated length was wrong; h2 then knows
            no way on, and does not say whose answer it was.
    """

    def __init__(self) -> None:
        self._h2 = Protocol(H2Configuration(client_side=True, header_encoding=None))
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, _Stream] = {}
        self._gone = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._is_silent = False
        self._idle: asyncio.TimerHandle | None = None
        self.is_closed = False
        self.is_at_odds = False

    @property
    def has_room(self) -> bool:
        """Whether the server takes one more request on this connection now."""
        most = self._h2.remote_settings.max_concurrent_streams
        return not (self.is_closed or self._is_silent) and self._h2.open_outbound_streams < most

    @asynccontextmanager
    async def get(self, url: URL, headers: Sequence[tuple[str, str]]) -> AsyncIterator[Answer]:
        """GET ``url``.

        Raises:
            StreamLostError: If the connection ends, or the server refuses the request, before an answer.
        """
        number, stream = self._ask(url, headers)
        try:
            status, received = await stream.head
            yield Answer(status=status, headers=received, body=self._body(number, stream))
        finally:
            self._leave(number, stream)

    async def close(self) -> None:
        """Hang up, and wait until the socket is closed."""
        self._hang_up()
        await self._gone.wait()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            self._h2.initiate_connection()
            self._h2.update_settings(_SETTINGS)
            self._h2.increment_flow_control_window(_CONNECTION_WINDOW)
            self._send()
            self._rest()

    @override
    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        try:
            events = self._h2.receive_data(data)
        except ProtocolError as error:
            self.is_at_odds = True
            self._lose(f"not HTTP/2: {error}")
            self._abort()
            return
        for event in events:
            self._handle(event)
        self._send()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        self._lose(f"the connection was closed: {exc}" if exc else "the connection was closed")

    def _ask(self, url: URL, headers: Sequence[tuple[str, str]]) -> tuple[int, _Stream]:
        if self.is_closed:
            raise StreamLostError("the connection was closed", is_shared=True)
        host = url.raw_host if url.is_default_port() else f"{url.raw_host}:{url.port}"
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", host or ""), (":path", url.raw_path_qs)]
        stream = _Stream(self._loop.create_future(), self._loop.time())
        try:
            number = self._h2.get_next_available_stream_id()
            self._h2.send_headers(number, [*fields, *headers], end_stream=True)
        except ProtocolError as error:
            raise StreamLostError(str(error), is_shared=False) from error
        self._streams[number] = stream
        self._rest()
        self._send()
        return number, stream

    async def _body(self, number: int, stream: _Stream) -> AsyncIterator[bytes]:
        while True:
            part = await stream.parts.get()
            if isinstance(part, FetchError):
                raise part
            data, weight = part
            if not weight:
                return
            self._acknowledge(number, weight)
            if data:
                yield data

    def _leave(self, number: int, stream: _Stream) -> None:
        """Forget a request; what is left of its answer is not wanted."""
        self._streams.pop(number, None)
        if self.is_closed:
            return
        self._is_silent |= self._heard_at < stream.asked_at
        self._rest()
        while not stream.parts.empty():
            part = stream.parts.get_nowait()
            if not isinstance(part, FetchError) and part[1]:
                self._acknowledge(number, part[1])
        if not stream.is_ended:
            self._h2.reset_stream(number)
        self._send()

    def _rest(self) -> None:
        """Hang up after a while without requests, if there are none."""
        if self._idle:
            self._idle.cancel()
        self._idle = None if self._streams else self._loop.call_later(KEPT_S, self._hang_up)

    def _hang_up(self) -> None:
        self._lose("closed")
        self._abort()

    def _acknowledge(self, number: int, weight: int) -> None:
        if not self.is_closed:
            self._h2.acknowledge_received_data(weight, number)
            self._send()

    def _handle(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self._lose(f"the server ended the connection, code {event.error_code}")
            self._abort()
            return
        number: Any = getattr(event, "stream_id", None)
        stream = self._streams.get(number)
        if stream is None:
            if isinstance(event, DataReceived):
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, number)
        elif isinstance(event, ResponseReceived):
            _receive_head(stream, event)
        elif isinstance(event, DataReceived) and event.flow_controlled_length:
            stream.parts.put_nowait((event.data or b"", event.flow_controlled_length))
        elif isinstance(event, StreamEnded):
            stream.is_ended = True
            stream.parts.put_nowait((b"", 0))
        elif isinstance(event, StreamReset):
            stream.lose(f"the server gave up the request, code {event.error_code}", is_shared=False)

    def _send(self) -> None:
        if self._transport and (data := self._h2.data_to_send()):
            self._transport.write(data)

    def _lose(self, why: str) -> None:
        self.is_closed = True
        if self._idle:
            self._idle.cancel()
        for stream in self._streams.values():
            stream.lose(why, is_shared=True)

    def _abort(self) -> None:
        if self._transport:
            self._transport.abort()


def _receive_head(stream: _Stream, event: ResponseReceived) -> None:
    headers = [(_text(name), _text(value)) for name, value in event.headers or ()]
    status = next((value for name, value in headers if name == ":status"), "")
    number = int(status) if len(status) == 3 and status.isdecimal() else 0
    if not stream.head.done():
        stream.head.set_result((number, [header for header in headers if not header[0].startswith(":")]))


def _text(header: str | bytes) -> str:
    """As HTTP/1.1's are read: UTF-8, other bytes as surrogates."""
    return header.decode("utf-8", "surrogateescape") if isinstance(header, bytes) else header
