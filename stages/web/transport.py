"""What asks a server one question: the small part of HTTP that fetching needs."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from yarl import URL

KEPT_S = 5.0
"""Seconds an idle connection is kept: the open web has more hosts than a process has file descriptors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status line and headers, with the body still to come.

    Attributes:
        status: Of HTTP.
        headers: Names in lower case, in the order they came; a name may come more than once.
        body: Parts of the body as they come, in its content encoding; to be read inside the context of ``get``.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: AsyncIterator[bytes]

    def all(self, name: str) -> list[str]:
        """The values of a header, whose name is in lower case."""
        return [value.strip() for key, value in self.headers if key == name]

    def first(self, name: str) -> str:
        """The first value of a header; empty if it is not there."""
        return next(iter(self.all(name)), "")

    @property
    def length(self) -> int | None:
        """The body's stated length in bytes."""
        text = self.first("content-length")
        return int(text) if text.isdecimal() else None


class Transport(Protocol):
    """Asks servers, over connections that it keeps and that lead only where the guard lets them."""

    def get(self, url: URL) -> AbstractAsyncContextManager[Answer]:
        """GET ``url``, with no redirect followed; leaving the context gives up what is left of the body.

        Errors of reading the body are raised on leaving, as FetchError too.

        Raises:
            FetchError: ``connect``, ``dns``, ``tls``, ``timeout`` (of connecting only), ``private_address``,
                ``bad_url``, ``bad_response``, ``short_body``.
        """

    async def close(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """How transports connect and what they send.

    Attributes:
        connect_s: Seconds for the lookup, the connection and TLS together.
        headers: Sent with every request; names in lower case.
        ca_file: PEM file of authorities to trust beside the system's.
    """

    connect_s: float
    headers: tuple[tuple[str, str], ...]
    ca_file: str | None = None
