"""What holds over every protocol."""

import hashlib
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from stages.base import Drop, Fail
from stages.fetch import FetchOut
from tests.stages.web.conftest import Book, Wire
from tests.stages.web.pages import BODY
from tests.stages.web.site import Site, make_certificate

FETCHED = FetchOut(original=BODY, sha256=hashlib.sha256(BODY).hexdigest())


@pytest.mark.parametrize("page", ["good", "chunked", "redirect/2", "slow/0.01"])
def test_files_come_whole(wire: Wire, page: str) -> None:
    before = wire.site.spoken["h2"]
    assert wire.fetch(wire.url(page)) == [FETCHED]
    assert (wire.site.spoken["h2"] > before) == (wire.name == "h2")


@pytest.mark.parametrize(("encoding", "asked"), [("utf-8", "gr%C3%BCn"), ("latin-1", "gr%FCn")])
def test_a_redirects_letters_go_back_as_the_bytes_they_came_as(wire: Wire, encoding: str, asked: str) -> None:
    before = wire.site.asked[asked]
    assert wire.fetch(wire.url(f"away/{encoding}")) == [FETCHED]
    assert wire.site.asked[asked] == before + 1


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("status/404", "http_404"),
        ("status/429", "http_429"),
        ("status/503", "http_5xx"),
        ("no_status", "bad_response"),
        ("redirect/9", "too_many_redirects"),
        ("elsewhere/file:|||etc|passwd", "scheme_refused"),
        ("empty", "empty"),
        ("large", "too_large"),
        ("endless", "too_large"),
        ("short", "short_body"),
        ("encoded/gzip/bomb", "too_large"),
        ("encoded/br/bomb", "too_large"),
    ],
)
def test_answers_that_give_no_file_fail_by_their_class(wire: Wire, page: str, expected: str) -> None:
    if (page, wire.name) == ("no_status", "http/1.1 over TLS"):
        pytest.skip("aiohttp lets TLS with such a server end by itself, in half a minute, and the loop ends before")
    assert wire.reason(wire.url(page)) == expected


@pytest.mark.parametrize(
    ("page", "limits"),
    [
        ("hang", {"timeout_s": 0.3}),
        ("hang", {"first_byte_s": 0.3}),
        ("stall", {"timeout_s": 0.3}),
        ("stall", {"idle_s": 0.3}),
        ("drip", {"timeout_s": 0.3}),
    ],
)
def test_every_wait_has_its_limit(wire: Wire, page: str, limits: dict[str, float]) -> None:
    (result,) = wire.fetch(wire.url(page), **limits)
    assert isinstance(result, Fail) and result.reason == "timeout"
    assert next(iter(limits)) in result.message


def test_a_body_that_drips_is_given_up(plain: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.web.body._GRACE_S", 0.2)
    (result,) = plain.fetch(plain.url("drip"), min_bytes_per_s=1000)
    assert isinstance(result, Fail) and "min_bytes_per_s" in result.message


def test_a_server_that_takes_no_connection_is_given_up(plain: Wire) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as queue:
        for _ in range(2):  # as many as wait for it
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        assert plain.reason(f"http://127.0.0.1:{server.getsockname()[1]}/", connect_s=0.2, retries=0) == "timeout"


@pytest.mark.parametrize(
    "page",
    [
        *("encoded/gzip/whole", "encoded/deflate/whole", "encoded/deflate/raw", "encoded/br/whole"),
        *("encoded/zstd/whole", "encoded/gzip+br/whole", "encoded/utf-8/whole"),
    ],
)
def test_encodings_are_undone_or_passed_over(wire: Wire, page: str) -> None:
    assert wire.fetch(wire.url(page)) == [FETCHED]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_encoded_bodies_that_are_cut_or_are_none_fail(plain: Wire, encoding: str) -> None:
    assert plain.reason(plain.url(f"encoded/{encoding}/cut")) == "short_body"
    assert plain.reason(plain.url(f"encoded/{encoding}/false")) == "bad_response"


def test_what_may_pass_is_tried_again(wire: Wire) -> None:
    wire.site.asked["recovers/503/3"] = 0
    assert wire.fetch(wire.url("recovers/503/3"), retries=2) == [FETCHED]


def test_connections_serve_many_requests(wire: Wire) -> None:
    before = wire.site.connections
    assert wire.fetch(*[wire.url("good")] * 60, in_flight=4) == [FETCHED] * 60
    most = 1 if wire.name == "h2" else 4
    assert wire.site.connections - before <= most


def test_a_connection_that_is_not_used_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The open web has more hosts than a process has file descriptors."""
    monkeypatch.setattr("stages.web.h2_connection.KEPT_S", 0.05)
    wire, before = Wire(site, "h2"), site.connections
    site.asked["recovers/503/2/1"] = 0
    assert wire.fetch(wire.url("recovers/503/2/1")) == [FETCHED]
    assert site.connections - before == 2, "the pause between its tries was longer"


def test_a_connection_that_fell_silent_takes_no_other_request(site: Site) -> None:
    wire, before = Wire(site, "h2"), site.connections
    first, hung, last = wire.fetch(*map(wire.url, ("good", "hang", "good")), per_host=1, first_byte_s=2, retries=0)
    assert isinstance(hung, Fail) and hung.reason == "timeout"
    assert [first, last] == [FETCHED] * 2 and site.connections - before == 2


@pytest.mark.parametrize("page", ["overlong", "bye"])
def test_who_shares_a_connection_that_another_breaks_is_asked_again(site: Site, page: str) -> None:
    site.asked[page] = 0
    neighbours = ["slow/0.5"] * 12
    wire = Wire(site, "h2")
    results = wire.fetch(*map(wire.url, [*neighbours, page, "good"]), per_host=14, host_failures=10, retries=0)
    assert [results[-1], *results[:12]] == [FETCHED] * 13


def test_a_server_that_breaks_http2_is_asked_over_http1_from_then_on(site: Site) -> None:
    wire, before = Wire(site, "h2"), site.spoken["h2"]
    _, *rest = wire.fetch(*map(wire.url, ["overlong", "good", "good"]), per_host=1, retries=0)
    assert rest == [FETCHED] * 2 and site.spoken["h2"] == before + 1


def test_a_body_that_is_given_up_frees_its_connection(wire: Wire) -> None:
    """Over HTTP/2 the others on the connection go on: its window is not used up by what no one reads."""
    urls = [wire.url("endless"), wire.url("good"), wire.url("stall")] * 15
    results = wire.fetch(*urls, in_flight=8, idle_s=0.3, retries=0)
    found = [result.reason if isinstance(result, Fail) else "fetched" for result in results]
    assert found == ["too_large", "fetched", "timeout"] * 15


def test_bodies_beyond_a_connections_window_flow_on(wire: Wire) -> None:
    results = wire.fetch(*[wire.url("good")] * 300, in_flight=32, per_host=32)
    assert results == [FETCHED] * 300


@pytest.mark.parametrize("is_h2", [False, True])
def test_certificates_are_verified(site: Site, tmp_path: Path, is_h2: bool) -> None:
    wire = Wire(site, "h2" if is_h2 else "http/1.1 over TLS")
    assert wire.reason(wire.url("good"), ca_file=None) == "tls"
    assert wire.reason(wire.url("good"), ca_file=str(make_certificate(tmp_path, ["one.test"]))) == "tls"
    assert wire.reason(wire.url("good", host="other.test"), lookup=Book(other_test=["127.0.0.1"])) == "tls"
    assert wire.fetch(wire.url("good", host="one.test")) == [FETCHED]


def test_a_closed_port_fails_to_connect(wire: Wire) -> None:
    scheme = wire.url("good").partition(":")[0]
    assert wire.reason(f"{scheme}://127.0.0.1:1/good") == "connect"


def test_an_unknown_name_fails_by_its_name(wire: Wire) -> None:
    assert wire.reason(wire.url("good", host="nowhere.test")) == "dns"


def test_the_decision_of_headers_comes_before_the_body(wire: Wire) -> None:
    before = wire.site.sent
    results = wire.fetch(*[wire.url("tagged/x-robots-tag/noai")] * 4, max_bytes=2**30)
    assert [result.reason for result in results if isinstance(result, Drop)] == ["robots_tag"] * 4
    assert wire.site.sent - before < 4 * 2**24, "most of it was sent"
    assert "X-Robots-Tag: noai" in results[0].message  # type: ignore[union-attr]


def test_the_largest_file_allowed_is_exact(wire: Wire) -> None:
    assert wire.fetch(wire.url("good"), max_bytes=len(BODY)) == [FETCHED]
    assert wire.reason(wire.url("good"), max_bytes=len(BODY) - 1) == "too_large"
