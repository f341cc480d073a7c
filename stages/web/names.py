"""Names to addresses: looked up beside each other, kept for a while, and only those that the guard passes."""

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

from stages.web.addresses import Guard
from stages.web.reasons import FetchError

_KEPT_S = 300.0
"""Seconds an answer is kept; ``getaddrinfo`` does not tell a record's own time to live."""

_MISSING_S = 60.0
"""Seconds for which a name that does not exist is not looked up again."""

_MOST_KEPT = 100_000
_THREADS_PER_REQUEST = 4
"""Lookups at once for each request at once. One waits in a thread, half a minute where a zone's servers are dead, and
its request gives up after ``connect_s``, 10 by default: meanwhile its place has others."""

_MOST_THREADS = 2048


class PrivateAddressError(OSError):
    """A host has addresses, and none may be connected to."""


@dataclass(frozen=True, slots=True)
class _Kept:
    until: float
    lookup: "asyncio.Task[list[str]]"


class SystemLookup:
    """Asks the system's resolver in threads of its own, so that dead names hold up no others.

    Args:
        requests: How many may be under way at once. Threads begin as they are needed.
    """

    def __init__(self, requests: int) -> None:
        self._threads = ThreadPoolExecutor(min(_THREADS_PER_REQUEST * requests, _MOST_THREADS), "dns")

    async def addresses(self, host: str) -> list[str]:
        """The host's addresses in the system's order.

        Raises:
            OSError: As ``socket.getaddrinfo``.
        """
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def close(self) -> None:
        """Begin no more lookups."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str) -> list[tuple[int, int, int, str, tuple[str | int, ...]]]:
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)  # type: ignore[return-value]


class Names(AbstractResolver):
    """The addresses of hosts that may be connected to.

    What it returns is what is connected to: no second lookup can give another address.
    """

    def __init__(self, guard: Guard, lookup: SystemLookup) -> None:
        self._guard = guard
        self._lookup = lookup
        self._kept: dict[str, _Kept] = {}

    @override
    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_UNSPEC) -> list[ResolveResult]:
        """As aiohttp asks.

        Raises:
            PrivateAddressError: If the host has only addresses that may not be connected to.
            OSError: If it has none.
        """
        found = await self._addresses(host)
        passed = [address for address in found if self._guard.passes(host, port, address)]
        if not passed:
            raise PrivateAddressError(f"{host} is {', '.join(found)}, not a public address; see allow_hosts")
        return [_result(host, port, address) for address in passed]

    def check_literal(self, host: str, port: int) -> None:
        """Refuse a host that is an IP address, which no one looks up, if it may not be connected to.

        Raises:
            FetchError: ``private_address``.
        """
        if _is_address(host) and not self._guard.passes(host, port, host):
            raise FetchError("private_address", f"{host} is not a public address; see allow_hosts")

    async def _addresses(self, host: str) -> list[str]:
        """Looked up once for all who ask meanwhile; whoever gives up leaves the others their answer."""
        if _is_address(host):
            return [host]
        now = asyncio.get_running_loop().time()
        kept = self._kept.get(host)
        if kept is None or kept.until < now or _may_pass(kept.lookup):
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            kept = _Kept(now + _KEPT_S, asyncio.create_task(self._lookup.addresses(host)))
            kept.lookup.add_done_callback(lambda lookup: self._settle(host, lookup))
            self._kept[host] = kept
        return await asyncio.shield(kept.lookup)

    def _settle(self, host: str, lookup: "asyncio.Task[list[str]]") -> None:
        if not lookup.cancelled() and lookup.exception() is not None:
            self._kept[host] = _Kept(lookup.get_loop().time() + _MISSING_S, lookup)

    @override
    async def close(self) -> None:
        self._lookup.close()
        for kept in self._kept.values():
            kept.lookup.cancel()


def _may_pass(lookup: "asyncio.Task[list[str]]") -> bool:
    """Whether a lookup failed for want of an answer, or was cut off."""
    if not lookup.done():
        return False
    error = None if lookup.cancelled() else lookup.exception()
    return lookup.cancelled() or (isinstance(error, OSError) and error.errno == socket.EAI_AGAIN)


@lru_cache(maxsize=2**16)
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _result(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=flags)
