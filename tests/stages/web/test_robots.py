"""robots.txt, rates and fairness, between the stage and a server."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from yarl import URL

from stages.base import Drop, Fail
from stages.fetch import Fetch, FetchIn, FetchOut
from stages.web import robots
from stages.web.params import FetchParams
from stages.web.reasons import FetchError
from tests.stages.web.conftest import Wire
from tests.stages.web.pages import PAGES
from tests.stages.web.site import Reply, Site

Ruled = Callable[..., Wire]


@pytest.fixture
def ruled(certificate: Path) -> Iterator[Ruled]:
    """Sites whose robots.txt says the given lines, or is answered with a status, or only after so many seconds."""
    sites: list[Site] = []

    def start(*lines: str, status: int = 200, after_s: float = 0.0) -> Wire:
        async def robots(site: Site, page: str) -> Reply:
            await asyncio.sleep(after_s)
            return Reply(["\n".join(lines).encode()], status)

        sites.append(Site({**PAGES, "robots.txt": robots, "last": last}, certificate))
        return Wire(sites[-1], "http/1.1")

    yield start
    for site in sites:
        site.close()


async def last(site: Site, page: str) -> Reply:
    """``last/PAGE/COUNT/...``: answered once so many pages that begin so were asked for."""
    _, begin, count, *_ = page.split("/")
    while sum(asked.startswith(begin) for asked in site.asked) < int(count):
        await asyncio.sleep(0.005)
    return await PAGES["good"](site, page)


def ends(results: list[FetchOut | Drop | Fail]) -> list[str]:
    return [result.reason if isinstance(result, Drop | Fail) else "fetched" for result in results]


def test_what_robots_txt_disallows_is_not_asked_for(ruled: Ruled) -> None:
    wire = ruled("User-agent: *", "Disallow: /chunked", "Allow: /")
    results = wire.fetch(wire.url("good/1"), wire.url("chunked"), wire.url("good/2"), robots_txt=True)
    assert ends(results) == ["fetched", "robots_txt", "fetched"]
    assert isinstance(results[1], Drop) and "disallows it for Inlay" in results[1].message
    assert wire.site.asked == {"robots.txt": 1, "good/1": 1, "good/2": 1}


@pytest.mark.parametrize(("bot", "end"), [("Inlay", "robots_txt"), ("Another", "fetched")])
def test_the_rules_for_our_name_are_ours(ruled: Ruled, bot: str, end: str) -> None:
    wire = ruled("User-agent: inlay", "Disallow: /", "", "User-agent: *", "Allow: /")
    assert ends(wire.fetch(wire.url("good"), robots_txt=True, bot=bot)) == [end]


def test_robots_txt_is_not_asked_for_unless_wanted(ruled: Ruled) -> None:
    wire = ruled("User-agent: *", "Disallow: /")
    assert ends(wire.fetch(wire.url("good"))) == ["fetched"]
    assert wire.site.asked == {"good": 1}


@pytest.mark.parametrize(
    ("status", "end"),
    [
        (404, "fetched"),
        (403, "fetched"),
        (410, "fetched"),
        (429, "robots_txt"),
        (500, "robots_txt"),
        (503, "robots_txt"),
    ],
)
def test_a_server_without_robots_txt_allows_all_and_one_that_cannot_say_disallows_all(
    ruled: Ruled, status: int, end: str
) -> None:
    wire = ruled("User-agent: *", "Disallow: /nothing", status=status)
    assert ends(wire.fetch(wire.url("good/1"), wire.url("good/2"), robots_txt=True, retries=1)) == [end, end]
    assert wire.site.asked["robots.txt"] == (1 if status < 429 else 2), "once for all, and once more if that may help"


def test_a_robots_txt_that_does_not_come_costs_its_host_alone(ruled: Ruled) -> None:
    silent, quick = ruled(after_s=60), ruled("User-agent: *", "Allow: /")
    urls = [silent.url("good", host="slow.test")] * 3 + [quick.url("good", host="one.test")]
    results = quick.fetch(*urls, robots_txt=True, first_byte_s=0.3, retries=0)
    assert ends(results) == ["robots_txt"] * 3 + ["fetched"]
    assert isinstance(results[0], Drop) and "could not be had" in results[0].message
    assert silent.site.asked == {"robots.txt": 1}


def test_a_host_that_is_redirected_to_has_rules_of_its_own(ruled: Ruled) -> None:
    opened, closed = ruled("User-agent: *", "Allow: /"), ruled("User-agent: *", "Disallow: /")
    target = closed.url("good").replace("/", "|")
    assert ends(opened.fetch(opened.url(f"elsewhere/{target}"), robots_txt=True)) == ["robots_txt"]
    assert closed.site.asked == {"robots.txt": 1}


def test_crawl_delay_lies_between_requests_to_its_host(ruled: Ruled) -> None:
    wire = ruled("User-agent: *", "Crawl-delay: 0.2")
    begun = time.monotonic()
    assert ends(wire.fetch(*[wire.url("good")] * 4, robots_txt=True, requests_per_s=100)) == ["fetched"] * 4
    assert time.monotonic() - begun >= 0.6


def test_what_crawl_delay_leaves_no_time_for_fails_at_once_and_holds_up_no_one(ruled: Ruled) -> None:
    patient, quick = ruled("User-agent: *", "Crawl-delay: 3600"), ruled("User-agent: *", "Allow: /")
    urls = [patient.url(f"good/{n}", host="slow.test") for n in range(5)]
    urls += [quick.url(f"good/{n}", host="one.test") for n in range(5)]
    results = quick.fetch(*urls, robots_txt=True)
    assert sorted(ends(results)[:5]) == ["fetched"] + ["host_slow"] * 4
    assert ends(results)[5:] == ["fetched"] * 5
    assert patient.site.asked.total() == 2, "robots.txt and one file"


def test_crawl_delay_is_kept_to_from_batch_to_batch(ruled: Ruled) -> None:
    wire = ruled("User-agent: *", "Crawl-delay: 3600")
    stage = Fetch(FetchParams(allow_hosts=("127.0.0.0/8",), robots_txt=True), 0)
    try:
        for end in ("fetched", "host_slow"):
            assert ends(stage.process([FetchIn(key="k", url=wire.url("good"))])) == [end]
    finally:
        stage.close()
    assert wire.site.asked == {"robots.txt": 1, "good": 1}


def test_requests_per_s_is_kept_to_at_each_host(plain: Wire) -> None:
    begun = time.monotonic()
    urls = [plain.url("good", host=host) for host in ("one.test", "two.test") for _ in range(4)]
    assert ends(plain.fetch(*urls, requests_per_s=8)) == ["fetched"] * 8
    assert time.monotonic() - begun >= 3 / 8


def test_rows_of_other_hosts_are_done_while_a_slow_host_has_not_answered(ruled: Ruled) -> None:
    wire = ruled()
    urls = [wire.url(f"last/good/30/{n}", host="slow.test") for n in range(40)]
    urls += [wire.url(f"good/{n}", host=host) for n, host in enumerate(["one.test", "two.test", "three.test"] * 10)]
    assert ends(wire.fetch(*urls, in_flight=4, per_host=2)) == ["fetched"] * 70
    order = [page.split("/")[0] for page in wire.site.asked]
    assert order[: order.index("good") + 30].count("last") <= 2, "it had its two places, and no third before all others"


def test_a_host_that_drips_takes_no_more_than_its_time(plain: Wire) -> None:
    plain.site.asked.clear()
    urls = [plain.url("drip", host="slow.test")] * 50 + [plain.url("good", host="one.test")] * 5
    found = ends(plain.fetch(*urls, per_host=2, timeout_s=0.4, max_host_s=0.6, retries=0))
    assert found[50:] == ["fetched"] * 5
    assert set(found[:50]) == {"timeout", "host_slow"}
    assert plain.site.asked["drip"] <= 4, "two places, each held for timeout_s, twice within max_host_s"


@pytest.mark.parametrize(("first", "asked"), [(FetchError("http_503", "busy"), 2), (b"", 1)])
def test_a_server_that_could_not_say_is_asked_again_soon(
    monkeypatch: pytest.MonkeyPatch, first: FetchError | bytes, asked: int
) -> None:
    monkeypatch.setattr(robots, "_UNKNOWN_S", 0.0)
    answers = [first, b""]
    places: list[URL] = []

    async def ask(place: URL) -> bytes:
        places.append(place)
        answer = answers[len(places) - 1]
        if isinstance(answer, FetchError):
            raise answer
        return answer

    async def visit() -> None:
        rules = robots.Robots("inlay", ask, lambda place, delay_s: None)
        with suppress(FetchError):
            await rules.check(URL("http://example.org/a.jpg"))
        await rules.check(URL("http://example.org/b.jpg"))

    asyncio.run(visit())
    assert len(places) == asked
