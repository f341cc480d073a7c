"""Which addresses may be connected to: public ones, and those that a manifest allows."""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "100.64.0.0/10",  # shared by carriers, RFC 6598; some clouds' metadata
        "168.63.129.16/32",  # Azure's host, outside every private range
        "192.88.99.0/24",  # relays of 6to4, RFC 7526
        "fec0::/10",  # site-local, RFC 3879
    )
)
"""What ``ipaddress`` in Python 3.11 counts as global though it leads inwards."""

_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
"""RFC 6052 and RFC 8215: the last four bytes are an IPv4 address."""

_COMPATIBLE = ipaddress.ip_network("::/96")
"""RFC 4291, section 2.5.5.1: likewise, and long abandoned."""


@lru_cache(maxsize=2**16)
def is_public(text: str) -> bool:
    """Whether an IP address is one of the public internet, and any IPv4 address inside it too."""
    address = ipaddress.ip_address(text)
    return all(map(_is_global, (address, *_embedded(address))))


def _is_global(address: Address) -> bool:
    is_inward = any(address in network for network in _REFUSED if network.version == address.version)
    return address.is_global and not (address.is_multicast or address.is_reserved or is_inward)


def _embedded(address: Address) -> Iterator[Address]:
    """IPv4 addresses that an IPv6 address may lead to."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    yield from filter(None, (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())))
    if any(address in network for network in (*_NAT64, _COMPATIBLE)):
        yield ipaddress.IPv4Address(address.packed[-4:])


_ENTRY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]]+)(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """Hosts that may be asked though their address is not public."""

    names: frozenset[tuple[str, int | None]]
    networks: tuple[Network, ...]

    @classmethod
    def parse(cls, entries: Iterable[str]) -> "AllowedHosts":
        """From hosts, ``host:port``s and networks such as ``10.0.0.0/8``.

        Raises:
            ValueError: If one is none of them, naming it.
        """
        entries = list(entries)
        networks = tuple(ipaddress.ip_network(entry) for entry in entries if "/" in entry)
        return cls(frozenset(_named(entry) for entry in entries if "/" not in entry), networks)

    def has(self, host: str, port: int, address: str) -> bool:
        """Whether ``host``, at ``port``, may have this IP address whatever it is."""
        if (host, None) in self.names or (host, port) in self.names:
            return True
        return bool(self.networks) and any(ipaddress.ip_address(address) in network for network in self.networks)


def _named(entry: str) -> tuple[str, int | None]:
    bare = f"[{entry}]" if entry.count(":") > 1 and "[" not in entry else entry
    found = _ENTRY.fullmatch(bare)
    if found is None:
        raise ValueError(f"{entry!r} is no host, host:port or network such as 10.0.0.0/8")
    return found["host"].strip("[]").lower(), int(found["port"]) if found["port"] else None


@dataclass(frozen=True, slots=True)
class Guard:
    """Says which of a host's addresses may be connected to."""

    allowed: AllowedHosts

    def passes(self, host: str, port: int, address: str) -> bool:
        """Whether ``address``, which ``host`` has, may be connected to at ``port``."""
        return is_public(address.partition("%")[0]) or self.allowed.has(host, port, address.partition("%")[0])
