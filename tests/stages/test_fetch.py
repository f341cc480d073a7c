import asyncio
import gzip
import hashlib
import threading
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from stages.base import Context, Fail
from stages.fetch import Fetch, FetchIn, FetchOut
from stages.web.names import SystemLookup
from stages.web.params import FetchParams
from stages.web.reasons import FetchError
from stages.web.url import check_url

BODY = bytes(range(256)) * 400
LIMIT = 2 * len(BODY)


class Site:
    """A web server in a thread, with a page for every way to answer."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.at_once = self.most_at_once = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._runner = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        self.port = self._runner.addresses[0][1]

    async def _start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/{page:.*}", self._answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    def url(self, page: str) -> str:
        return f"http://127.0.0.1:{self.port}/{page}"

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        page = request.match_info["page"]
        self.asked[page] += 1
        self.agents.add(request.headers["User-Agent"])
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await PAGES[page.split("/")[0]](self, request, page)
        finally:
            self.at_once -= 1


Page = Callable[[Site, web.Request, str], Awaitable[web.StreamResponse]]


async def good(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    return web.Response(body=BODY)


async def status(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    return web.Response(status=int(page.split("/")[1]), body=b"sorry")


async def redirect(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    code, left = map(int, page.split("/")[1:])
    return web.Response(status=code, headers={"Location": f"/redirect/{code}/{left - 1}" if left else "/good"})


async def redirect_to_file(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "file:///etc/passwd"})


async def redirect_nowhere(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    return web.Response(status=302)


async def empty(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    return web.Response()


async def slow(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    await asyncio.sleep(float(page.split("/")[1]))
    return web.Response(body=BODY)


async def trickle(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x")
        await asyncio.sleep(0.02)


async def large(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    return web.Response(body=bytes(LIMIT + 1))


async def endless(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(bytes(2**16))


async def short(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"x" * 500)
    request.transport.close()
    return response


async def short_chunked(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    request.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\nabc")
    request.transport.close()
    return web.Response()


async def hang_up(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    request.transport.close()
    return web.Response()


async def gibberish(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    request.transport.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    request.transport.close()
    return web.Response()


async def encoded(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    bodies = {
        "gzip": gzip.compress(BODY),
        "deflate": zlib.compress(BODY),
        "cut": gzip.compress(BODY)[:-20],
        "false": BODY,
        "bomb": gzip.compress(bytes(20 * LIMIT)),
        "br": BODY,
        "utf-8": BODY,
    }
    kind = page.split("/")[1]
    encoding = kind if kind in ("deflate", "br", "utf-8") else "gzip"
    return web.Response(body=bodies[kind], headers={"Content-Encoding": encoding})


async def recovers(site: Site, request: web.Request, page: str) -> web.StreamResponse:
    code = int(page.split("/")[1])
    if site.asked[page] < 3:
        if code == 0:
            request.transport.close()
        return web.Response(status=code or 200)
    return web.Response(body=BODY)


PAGES: dict[str, Page] = {
    function.__name__: function
    for function in (
        *(good, status, redirect, redirect_to_file, redirect_nowhere, empty, slow, trickle, large, endless),
        *(short, short_chunked, hang_up, gibberish, encoded, recovers),
    )
}


class NoNames(SystemLookup):
    """Knows no host."""

    async def addresses(self, host: str) -> list[str]:
        raise OSError(None, f"{host} is unknown")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def fetch(*urls: str | None, lookup: SystemLookup | None = None, **params: object) -> list[FetchOut | Fail]:
    settings = {
        "allow_hosts": ["127.0.0.1"],
        "backoff_s": 0.01,
        "retries": 1,
        "timeout_s": 5,
        "max_bytes": LIMIT,
        **params,
    }
    stage = Fetch(FetchParams.model_validate(settings), 0, lookup=lookup)
    try:
        return stage.process([FetchIn(key=f"k{number}", url=url) for number, url in enumerate(urls)])
    finally:
        stage.close()


def reason(url: str | None, **params: object) -> str:
    (result,) = fetch(url, **params)
    assert isinstance(result, Fail)
    assert result.message
    assert result.reason in Fetch.reasons
    return result.reason


FETCHED = FetchOut(original=BODY, sha256=hashlib.sha256(BODY).hexdigest())


def test_a_file_comes_with_its_digest(site: Site) -> None:
    assert fetch(site.url("good"), bot="tester", contact="t@example.org") == [FETCHED]
    assert "Mozilla/5.0 (compatible; tester/0.1; +t@example.org)" in site.agents


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (None, "no_url"),
        ("", "bad_url"),
        ("not a url", "bad_url"),
        ("//host/no-scheme", "bad_url"),
        ("http://", "bad_url"),
        ("http:///path", "bad_url"),
        ("http://host:99999/", "bad_url"),
        ("http://[::1/", "bad_url"),
        ("http://" + "a" * 70 + ".example/", "bad_url"),
        ("file:///etc/passwd", "scheme_refused"),
        ("ftp://host/file.jpg", "scheme_refused"),
        ("data:image/png;base64,AAAA", "scheme_refused"),
    ],
)
def test_urls_that_cannot_be_asked_for_fail_by_their_fault(url: str | None, expected: str) -> None:
    assert reason(url) == expected


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("status/403", "http_403"),
        ("status/404", "http_404"),
        ("status/429", "http_429"),
        ("status/410", "http_4xx"),
        ("status/500", "http_5xx"),
        ("status/503", "http_5xx"),
        ("status/206", "bad_response"),
        ("status/304", "bad_response"),
        ("redirect_to_file", "scheme_refused"),
        ("redirect_nowhere", "bad_response"),
        ("redirect/302/9", "too_many_redirects"),
        ("empty", "empty"),
        ("status/204", "empty"),
        ("large", "too_large"),
        ("endless", "too_large"),
        ("short", "short_body"),
        ("short_chunked", "short_body"),
        ("hang_up", "connect"),
        ("gibberish", "bad_response"),
        ("encoded/cut", "short_body"),
        ("encoded/false", "bad_response"),
        ("encoded/br", "bad_response"),
        ("encoded/bomb", "too_large"),
    ],
)
def test_answers_that_give_no_file_fail_by_their_class(site: Site, page: str, expected: str) -> None:
    assert reason(site.url(page)) == expected


def test_a_closed_port_fails_to_connect() -> None:
    assert reason("http://127.0.0.1:1/") == "connect"


def test_an_unknown_host_fails_by_its_name() -> None:
    assert reason("http://nowhere.example/", lookup=NoNames(requests=1)) == "dns"


def test_a_server_without_tls_fails_a_secure_url(site: Site) -> None:
    assert reason(site.url("good").replace("http:", "https:")) == "tls"


@pytest.mark.parametrize("page", ["slow/30", "trickle"])
def test_the_deadline_is_for_all_of_a_url(site: Site, page: str) -> None:
    began = time.monotonic()
    assert reason(site.url(page), timeout_s=0.3, max_bytes=2**20) == "timeout"
    assert time.monotonic() - began < 10


def test_each_url_that_was_asked_for_tells_its_seconds(site: Site) -> None:
    params = FetchParams(allow_hosts=("127.0.0.1",), backoff_s=0.2, retries=1, timeout_s=1)
    stage = Fetch(params, 0)
    try:
        urls = (site.url("good"), site.url("slow/30"), site.url("recovers/503/once"), "no url", None)
        stage.process([FetchIn(key=f"k{number}", url=url) for number, url in enumerate(urls)])
        quick, *slow = sorted(stage.take_seconds())
        assert quick < 1 and len(slow) == 2 and slow[-1] >= 1
        assert list(stage.take_seconds()) == [], "each is told once"
    finally:
        stage.close()


def test_the_largest_file_allowed_is_exact(site: Site) -> None:
    assert fetch(site.url("good"), max_bytes=len(BODY)) == [FETCHED]
    assert reason(site.url("good"), max_bytes=len(BODY) - 1) == "too_large"
    assert fetch(site.url("encoded/gzip"), max_bytes=len(BODY)) == [FETCHED]
    assert reason(site.url("encoded/gzip"), max_bytes=len(BODY) - 1) == "too_large"


@pytest.mark.parametrize("page", ["encoded/gzip", "encoded/deflate", "encoded/utf-8"])
def test_encodings_that_were_not_asked_for_are_undone_or_ignored(site: Site, page: str) -> None:
    assert fetch(site.url(page)) == [FETCHED]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed_up_to_the_limit(site: Site, code: int) -> None:
    assert fetch(site.url(f"redirect/{code}/2"), max_redirects=3) == [FETCHED]
    assert reason(site.url(f"redirect/{code}/2"), max_redirects=2) == "too_many_redirects"


@pytest.mark.parametrize("code", [408, 425, 429, 500, 503])
def test_what_may_pass_is_tried_again(site: Site, code: int) -> None:
    assert fetch(site.url(f"recovers/{code}/enough"), retries=2) == [FETCHED]
    assert isinstance(fetch(site.url(f"recovers/{code}/too_few"), retries=1)[0], Fail)


def test_a_connection_that_is_closed_is_tried_again(site: Site) -> None:
    assert fetch(site.url("recovers/0"), retries=2) == [FETCHED]


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_what_will_not_pass_is_asked_for_once(site: Site, code: int) -> None:
    page = f"status/{code}/once"
    fetch(site.url(page), retries=3)
    assert site.asked[page] == 1


def test_a_pause_that_outlasts_the_deadline_is_not_begun(site: Site) -> None:
    began = time.monotonic()
    assert reason(site.url("status/503/patience"), backoff_s=60, timeout_s=30, retries=3) == "http_5xx"
    assert time.monotonic() - began < 10


def test_results_come_in_order_whatever_is_slow_or_broken(site: Site) -> None:
    urls = [site.url("slow/0.2"), None, site.url("status/404"), site.url("good"), site.url("slow/0.05"), "x"]
    results = fetch(*urls)
    assert [getattr(result, "reason", "fetched") for result in results] == [
        *("fetched", "no_url", "http_404"),
        *("fetched", "fetched", "bad_url"),
    ]


def test_no_more_than_in_flight_are_asked_at_once(site: Site) -> None:
    site.most_at_once = 0
    assert fetch(*[site.url("slow/0.05")] * 12, in_flight=4) == [FETCHED] * 12
    assert 1 < site.most_at_once <= 4


def test_a_stage_serves_many_batches_from_any_thread(site: Site) -> None:
    stage = Fetch.load(FetchParams(allow_hosts=("127.0.0.1",)), Context(seed=1))
    batch = [FetchIn(key="k", url=site.url("good"))]
    results = [stage.process(batch), stage.process([]), stage.process(batch * 3)]
    thread = threading.Thread(target=lambda: results.append(stage.process(batch)))
    thread.start()
    thread.join()
    assert results == [[FETCHED], [], [FETCHED] * 3, [FETCHED]]
    stage.close()
    stage.close()


def test_a_stage_that_cannot_be_loaded_closes_its_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loops = [asyncio.new_event_loop()]
    monkeypatch.setattr("stages.fetch.asyncio.new_event_loop", lambda: loops[0])
    with pytest.raises(ValueError, match=r"gone\.pem"):
        Fetch(FetchParams(ca_file=str(tmp_path / "gone.pem")), 0)
    assert loops[0].is_closed()


def test_a_stage_that_is_let_go_closes_its_connections(site: Site) -> None:
    stage = Fetch.load(FetchParams(allow_hosts=("127.0.0.1",)), Context())
    stage.process([FetchIn(key="k", url=site.url("good"))])
    loop = stage._runner.get_loop()
    del stage
    assert loop.is_closed()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" http://host/a b.jpg\n", "http://host/a%20b.jpg"),
        ("http://host/a%20b.jpg?x=1&y=%2F", "http://host/a%20b.jpg?x=1&y=%2F"),
        ("http://bücher.example/grün.jpg", "http://xn--bcher-kva.example/gr%C3%BCn.jpg"),
        ("http://host/a/./b/../c.jpg", "http://host/a/c.jpg"),
        ("http://host/100%.jpg", "http://host/100%25.jpg"),
    ],
)
def test_urls_are_changed_only_where_they_cannot_be_sent(text: str, expected: str) -> None:
    assert str(check_url(text)) == expected


def test_a_redirect_is_relative_to_where_it_came_from() -> None:
    base = check_url("https://host/a/b?c")
    assert str(check_url("../d.jpg?e=%2F", base)) == "https://host/d.jpg?e=%2F"
    assert str(check_url("//other/d.jpg", base)) == "https://other/d.jpg"


ANY_TEXT = st.text(st.characters() | st.sampled_from(":/[]@%?#.\0\ud800\udc80"))


@given(ANY_TEXT | ANY_TEXT.map("http://{}".format) | ANY_TEXT.map("http://host/{}".format))
@example("http://:]\u202e::1[:&@")
@example("http://1\0.1")
@example("http://host/\ud800")
def test_any_text_is_a_web_url_or_refused(text: str) -> None:
    try:
        url = check_url(text)
    except FetchError as refused:
        assert refused.reason in {"bad_url", "scheme_refused"}
    else:
        assert url.scheme in ("http", "https")
        assert url.host
        assert "\ud800" not in text
