"""What a manifest may set on ``fetch``."""

from typing import Annotated

from pydantic import AfterValidator, Field

from stages.base import Params
from stages.web.addresses import AllowedHosts


def _parseable(entries: tuple[str, ...]) -> tuple[str, ...]:
    AllowedHosts.parse(entries)
    return entries


class FetchParams(Params):
    """How long, how much, how many at once; whom we ask, how we say who we are, and what we leave alone."""

    in_flight: int = Field(64, ge=1, le=4096, description="Requests at once in a worker.")
    per_host: int = Field(8, ge=1, le=4096, description="Requests at once to one host, in a worker.")
    requests_per_s: float | None = Field(
        None, gt=0, le=10_000, description="Requests a second to one host, in a worker; null sets no limit."
    )
    http2: bool = Field(
        False,
        description="Ask over HTTP/2 whoever agrees to it. One connection then serves many requests, at more CPU time.",
    )
    timeout_s: float = Field(
        20, gt=0, le=3600, description="Seconds for one URL in all: connecting, redirects, body, pauses and retries."
    )
    connect_s: float = Field(10, gt=0, le=3600, description="Seconds for the name, the connection and TLS together.")
    first_byte_s: float = Field(15, gt=0, le=3600, description="Seconds from asking to the answer's headers.")
    idle_s: float = Field(10, gt=0, le=3600, description="Seconds between two parts of a body.")
    min_bytes_per_s: float = Field(1000, ge=0, description="Least mean speed of a body that takes more than 5 s.")
    max_bytes: int = Field(32 * 2**20, ge=1, le=2**30, description="Largest file, counted after decompression too.")
    max_redirects: int = Field(5, ge=0, le=20, description="Redirects that are followed.")
    retries: int = Field(
        2, ge=0, le=10, description="More tries after a failed connection, or status 408, 425, 429, 5xx."
    )
    backoff_s: float = Field(
        0.5,
        ge=0,
        le=60,
        description="Pause before the first retry, in seconds; it doubles each time, give or take half. "
        "A longer Retry-After is waited for, if timeout_s lets it.",
    )
    host_failures: int = Field(
        10, ge=1, description="Tries at a host in a row without an answer after which its others in the batch fail."
    )
    max_host_s: float = Field(
        600, gt=0, description="Seconds from a host's first request in a batch after which none of its others begins."
    )
    allow_hosts: Annotated[tuple[str, ...], AfterValidator(_parseable)] = Field(
        (),
        description="Hosts (a name or address, perhaps with :port, or a network such as 10.0.0.0/8) that may be asked "
        "though they are not on the public internet: for tests and intranets.",
    )
    ca_file: str | None = Field(None, description="PEM file of certificate authorities to trust beside the system's.")
    bot: str = Field(
        "Inlay",
        pattern=r"^[A-Za-z_-]+$",
        description="Our name in User-Agent, and what X-Robots-Tag and robots.txt may call us.",
    )
    contact: str | None = Field(
        None,
        pattern=r"^[\x21-\x27\x2a-\x7e]+$",
        description="A URL or e-mail address in User-Agent, for those who want to complain. Set it.",
    )
    refused_tags: tuple[str, ...] = Field(
        ("noai", "noimageai", "noindex", "noimageindex"),
        description="Directives of X-Robots-Tag, for all bots or ours, for which a file is left.",
    )
    respect_tdm: bool = Field(True, description="Leave files whose answer says TDM-Reservation: 1.")
    robots_txt: bool = Field(False, description="Ask each server for its robots.txt first, and obey it.")
    deletions: tuple[str, ...] = Field(
        (),
        description="Lists of URLs, and of SHA-256 or MD5 of files or URLs, that may not be used: text, one a line, or "
        "Parquet, CSV or TSV with a column url, sha256, md5 or hash.",
    )

    @property
    def user_agent(self) -> str:
        """What servers are told we are."""
        return f"Mozilla/5.0 (compatible; {self.bot}/0.1{f'; +{self.contact}' if self.contact else ''})"
