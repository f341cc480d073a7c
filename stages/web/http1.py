"""HTTP/1.1, by aiohttp."""

import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import aiohttp
from yarl import URL

from stages.web.names import Names, PrivateAddressError
from stages.web.reasons import FetchError
from stages.web.tls import verifying_context
from stages.web.transport import KEPT_S, Answer, Wire

_BUFFER_BYTES = 2**18
"""Of a body, unread, at which the socket is left alone for a while: most pictures are smaller."""

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS})
"""Errors of connecting that are this machine's, not the host's."""


class Http1:
    """Asks over HTTP/1.1. To be made inside a running event loop."""

    def __init__(self, wire: Wire, names: Names) -> None:
        self._names = names
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # places are given out before
                keepalive_timeout=KEPT_S,
                use_dns_cache=False,
                enable_cleanup_closed=True,  # a polite end of TLS would wait for servers that hang
                resolver=names,
                ssl=verifying_context(wire.ca_file, ["http/1.1"]),
            ),
            headers=dict(wire.headers),
            skip_auto_headers=["Accept", "Accept-Encoding"],
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=wire.connect_s),
            auto_decompress=False,
            read_bufsize=_BUFFER_BYTES,
        )

    @asynccontextmanager
    async def get(self, url: URL) -> AsyncIterator[Answer]:
        """As :class:`stages.web.transport.Transport` says."""
        self._names.check_literal(url.raw_host or "", url.port or 0)
        with classified():
            async with self._session.get(url, allow_redirects=False) as response:
                headers = [(name.lower(), value) for name, value in response.headers.items()]
                yield Answer(status=response.status, headers=headers, body=response.content.iter_any())

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


@contextmanager
def classified() -> Iterator[None]:
    """Turn aiohttp's exceptions into ours."""
    try:
        yield
    except aiohttp.ClientConnectorDNSError as error:
        raise of_lookup(error.os_error) from error
    except aiohttp.ClientSSLError as error:
        raise FetchError("tls", str(error)) from error
    except aiohttp.ClientPayloadError as error:
        raise FetchError("short_body", str(error)) from error
    except (aiohttp.InvalidURL, UnicodeError) as error:
        raise FetchError("bad_url", str(error)) from error
    except aiohttp.ConnectionTimeoutError as error:
        raise FetchError("timeout", "no connection within connect_s", is_passing=True) from error
    except aiohttp.ClientConnectionError as error:
        raise_if_ours(error)
        raise FetchError("connect", str(error), is_passing=True) from error
    except aiohttp.ClientError as error:
        raise FetchError("bad_response", str(error)) from error


def of_lookup(error: OSError) -> FetchError:
    """What a failed lookup of a name means."""
    if isinstance(error, PrivateAddressError):
        return FetchError("private_address", str(error))
    return FetchError("dns", str(error), is_passing=error.errno == socket.EAI_AGAIN)


def raise_if_ours(error: Exception) -> None:
    """Raise an error of connecting that is this machine's own as it is, lest it be taken for the host's.

    Raises:
        OSError: If there are no more file descriptors or buffers.
    """
    code = getattr(error, "errno", None)
    if code in _OURS:
        raise OSError(code, f"out of sockets: lower in_flight or raise `ulimit -n` ({error})") from error
