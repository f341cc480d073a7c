"""Why a URL gave no file: the closed set of classes, and the error that carries one."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["drop", "fail"]


@dataclass(frozen=True, slots=True)
class Reason:
    """A class of rows that were not fetched.

    Attributes:
        meaning: A sentence for people.
        kind: ``drop``: we may not or will not have the file; ``fail``: it could not be had.
        may_pass: Another run may well fare better: what ``retry`` is for.
    """

    meaning: str
    kind: Kind = "fail"
    may_pass: bool = False


REASONS: Mapping[str, Reason] = MappingProxyType(
    {
        "no_url": Reason("The metadata has no URL."),
        "bad_url": Reason("The URL, or one it redirects to, is malformed."),
        "scheme_refused": Reason("The URL, or one it redirects to, is neither http nor https."),
        "private_address": Reason("The host, or one it redirects to, is not on the public internet."),
        "deletion_list": Reason("The URL, one it redirects to, or the file is on a list in `deletions`.", "drop"),
        "robots_txt": Reason("The host's robots.txt disallows the URL, or could not be had.", "drop"),
        "robots_tag": Reason("The answer's X-Robots-Tag has a directive in `refused_tags`.", "drop"),
        "tdm_reservation": Reason("The answer reserves text and data mining: TDM-Reservation: 1.", "drop"),
        "timeout": Reason(
            "Not connected, answered or sent within `connect_s`, `first_byte_s`, `idle_s` or `timeout_s`, "
            "or slower than `min_bytes_per_s`.",
            may_pass=True,
        ),
        "dns": Reason("The host's name has no address.", may_pass=True),
        "connect": Reason("The connection was refused, reset or closed before an answer.", may_pass=True),
        "tls": Reason("No secure connection: certificate or protocol."),
        "host_down": Reason("Not asked: `host_failures` tries at its host in a row had no answer.", may_pass=True),
        "host_slow": Reason("Not asked: its host took more than `max_host_s` for others of the batch.", may_pass=True),
        "too_many_redirects": Reason("More redirects than `max_redirects`."),
        "http_403": Reason("Status 403, forbidden."),
        "http_404": Reason("Status 404, not found."),
        "http_429": Reason("Status 429, too many requests.", may_pass=True),
        "http_4xx": Reason("Another status from 400 to 499."),
        "http_5xx": Reason("A status from 500 to 599.", may_pass=True),
        "too_large": Reason("More than `max_bytes`."),
        "empty": Reason("A body of no bytes."),
        "short_body": Reason("The body ended before its stated length.", may_pass=True),
        "bad_response": Reason("The answer breaks HTTP, or is of a kind that was not asked for."),
    }
)
"""By name, in the order in which they are met. ``docs/fetch.md`` has the same table."""


class FetchError(Exception):
    """A URL that gave no file.

    Attributes:
        reason: One of ``REASONS``.
        is_passing: Another try, soon, may do better.
        retry_after_s: Seconds the server asks to be left alone.
        is_shared: The connection ended for all that were under way on it, and another may be why.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        is_passing: bool = False,
        retry_after_s: float | None = None,
        is_shared: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.is_passing = is_passing
        self.retry_after_s = retry_after_s
        self.is_shared = is_shared
