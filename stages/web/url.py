"""URLs: from what metadata and ``Location`` headers have to what may be asked for."""

import ipaddress
import re
import socket

from yarl import URL

from stages.web.reasons import FetchError

_SENDABLE = re.compile(r"(?:[!#$&-;=?-Z\[\]_a-z~]|%[0-9A-Fa-f]{2})+")
"""Characters a URL may have, and escapes. One of only these is not normalised, since many are signed as they stand."""

_RAW = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8, as headers are decoded; browsers send them back as they came."""

_LABEL = r"[\w!$&'()*+,;=~-]{1,63}"
_NAME = re.compile(rf"(?=.{{1,254}}\Z){_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
"""A host to look up. A percent sign is in none: ``8.8.8.8%41.example`` begins like an address and is a name."""

_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")
"""Hosts that end in a number are IPv4 addresses, as in the WHATWG URL Standard, section 3.5."""


def check_url(text: str, base: URL | None = None) -> URL:
    """The URL to ask for: as it is if it may be sent so, else percent-encoded and with its host in IDNA.

    An IPv4 address in an odd form (decimal, hexadecimal, octal, with parts left out) gets its dotted form.

    Args:
        text: A URL as metadata or a ``Location`` header has it, bytes that are not UTF-8 as surrogates.
        base: What a relative one is relative to.

    Raises:
        FetchError: ``bad_url``, or ``scheme_refused`` if it is neither http nor https.
    """
    try:
        text = _RAW.sub(lambda byte: f"%{ord(byte[0]) & 0xFF:02X}", text.strip())
        text.encode()
        is_ready = bool(_SENDABLE.fullmatch(text)) and "/./" not in text and "/../" not in text
        url = URL(text, encoded=is_ready)
        url = base.join(url) if base else url
        has_address = bool(url.host and url.port)
    except (ValueError, IndexError) as error:  # yarl trips over brackets
        raise FetchError("bad_url", f"{text!r} is no URL: {error}") from error
    if url.scheme not in ("http", "https"):
        raise FetchError("scheme_refused" if url.scheme else "bad_url", f"{text!r} is neither http nor https")
    if not has_address:
        raise FetchError("bad_url", f"{text!r} names no host and port")
    return _with_plain_host(url)


def authority(url: URL) -> str:
    """``host:port``, whose limits a URL falls under."""
    return f"{url.raw_host}:{url.port}".lower()


def _with_plain_host(url: URL) -> URL:
    host = url.raw_host or ""
    if not (_NAME.fullmatch(host) or _is_ipv6(host)):
        raise FetchError("bad_url", f"{host!r} is no host")
    if not _NUMBER.fullmatch(host):
        return url
    try:
        plain = socket.inet_ntoa(socket.inet_aton(host.removesuffix(".")))
    except OSError as error:
        raise FetchError("bad_url", f"{host!r} ends in a number and is no IPv4 address") from error
    return url if plain == host else url.with_host(plain)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False
