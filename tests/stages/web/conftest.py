from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stages.base import Drop, Fail
from stages.fetch import Fetch, FetchIn, FetchOut
from stages.web.names import SystemLookup
from stages.web.params import FetchParams
from tests.stages.web.pages import LIMIT, PAGES
from tests.stages.web.site import Site, make_certificate

HOSTS = ("one.test", "two.test", "three.test", "slow.test", "rebind.test")


class Book(SystemLookup):
    """Knows the tests' hosts, and notes what it is asked."""

    def __init__(self, **known: list[str]) -> None:
        super().__init__(requests=1)
        self.known = {**{host: ["127.0.0.1"] for host in HOSTS}, **{k.replace("_", "."): v for k, v in known.items()}}
        self.asked: list[str] = []

    async def addresses(self, host: str) -> list[str]:
        self.asked.append(host)
        if host not in self.known:
            raise OSError(-2, f"{host} is unknown")
        return self.known[host]


@pytest.fixture(scope="package")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"), HOSTS)


@pytest.fixture(scope="package")
def site(certificate: Path) -> Iterator[Site]:
    site = Site(PAGES, certificate)
    yield site
    site.close()


Result = FetchOut | Drop | Fail


@dataclass
class Wire:
    """A site, asked over one protocol."""

    site: Site
    name: str

    def url(self, page: str, host: str = "127.0.0.1") -> str:
        return self.site.url(page, is_secure=self.name != "http/1.1", host=host)

    def fetch(
        self, *urls: str | None, lookup: SystemLookup | None = None, **params: Any
    ) -> list[FetchOut | Drop | Fail]:
        settings: dict[str, Any] = {
            "allow_hosts": ["127.0.0.0/8"],
            "backoff_s": 0.01,
            "retries": 1,
            **dict.fromkeys(("timeout_s", "connect_s", "first_byte_s", "idle_s"), 120),  # however slow the machine
            "min_bytes_per_s": 0,
            "max_bytes": LIMIT,
            "ca_file": str(self.site.certificate),
            "http2": self.name == "h2",
            **params,
        }
        stage = Fetch(FetchParams.model_validate(settings), 0, lookup=lookup or Book())
        try:
            return stage.process([FetchIn(key=f"k{number}", url=url) for number, url in enumerate(urls)])
        finally:
            stage.close()

    def reason(self, url: str, **params: Any) -> str:
        """Why there is no file."""
        (result,) = self.fetch(url, **params)
        assert isinstance(result, Drop | Fail), "it was fetched"
        assert result.message
        return result.reason


@pytest.fixture(params=["http/1.1", "http/1.1 over TLS", "h2"])
def wire(request: pytest.FixtureRequest, site: Site) -> Wire:
    return Wire(site, request.param)


@pytest.fixture
def plain(site: Site) -> Wire:
    return Wire(site, "http/1.1")
