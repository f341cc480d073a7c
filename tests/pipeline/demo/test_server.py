import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.demo import server
from pipeline.demo.entry import GOOD, Entry
from pipeline.demo.server import PICTURES, PortTakenError, choose_port, serve
from stages.base import Context, Fail
from stages.fetch import Fetch, FetchIn, FetchOut, FetchParams

NOT_FETCHED = {
    "cut_off": "short_body",
    "empty": "empty",
    "endless": "too_large",
    "file_url": "scheme_refused",
    "not_found": "http_404",
    "null_url": "no_url",
    "server_error": "http_5xx",
    "slow": "timeout",
}


@pytest.fixture(scope="module")
def port(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    free = choose_port(tmp_path_factory.mktemp("port"))
    with serve(built, free):
        yield free


@pytest.fixture(scope="module")
def fetch() -> Iterator[Fetch]:
    stage = Fetch.load(FetchParams(timeout_s=2, backoff_s=0, allow_hosts=("127.0.0.1",)), Context())
    yield stage
    stage.close()


def test_every_file_of_the_table_is_served_as_it_is(port: int, fetch: Fetch, table: list[Entry]) -> None:
    whole = [entry for entry in table if entry.file]
    fetched = fetch.process([FetchIn(key="", url=entry.url(port)) for entry in whole])
    for entry, result in zip(whole, fetched, strict=True):
        assert isinstance(result, FetchOut), (entry.kind, result)
        assert result.original == entry.file
    assert {entry.kind for entry in whole} >= {GOOD, "html", "svg", "truncated", "bomb", "same_bytes", "icon"}


@pytest.mark.parametrize(("kind", "reason"), NOT_FETCHED.items())
def test_bad_manners_are_met_as_failures(port: int, fetch: Fetch, table: list[Entry], kind: str, reason: str) -> None:
    entry = next(entry for entry in table if entry.kind == kind)
    (result,) = fetch.process([FetchIn(key="", url=entry.url(port))])
    assert isinstance(result, Fail)
    assert result.reason == reason


@pytest.mark.parametrize(
    ("name", "stated"),
    [("page.jpg", "image/jpeg"), ("drawing.svg", "image/svg+xml"), ("truncated.jpg", "image/jpeg")],
)
def test_the_stated_type_is_that_of_the_name_whatever_the_file_holds(port: int, name: str, stated: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", f"/{name}")
    assert connection.getresponse().getheader("Content-Type") == stated
    connection.close()


def test_some_good_pictures_are_redirected_to(port: int, table: list[Entry]) -> None:
    moved = [entry for entry in table if entry.kind == GOOD and (entry.path or "").startswith(server.MOVED)]
    assert moved
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", moved[0].path or "")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Location")) == (301, (moved[0].path or "").removeprefix(server.MOVED))
    connection.close()


@pytest.mark.parametrize("path", ["/", "/cat/", "/../port", "/%2e%2e/port"])
def test_neither_folders_nor_what_lies_outside_are_shown(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    assert connection.getresponse().status == 404
    connection.close()


def test_stopping_waits_for_no_slow_answer(built: Path, tmp_path: Path) -> None:
    free = choose_port(tmp_path)
    with serve(built, free):
        connection = http.client.HTTPConnection("127.0.0.1", free, timeout=5)
        connection.request("GET", f"{server.SLOW}/cat.jpg")
        started = time.monotonic()
    assert time.monotonic() - started < 2
    connection.close()


def test_a_taken_port_is_a_clear_error(built: Path, port: int) -> None:
    with pytest.raises(PortTakenError, match=f"port {port} of 127.0.0.1 is taken"), serve(built, port):
        pass


def test_serving_what_was_never_built_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{PICTURES} is missing"), serve(tmp_path, 8641):
        pass


def test_a_port_is_kept_while_it_is_free(tmp_path: Path) -> None:
    first = choose_port(tmp_path)
    assert choose_port(tmp_path) == first
    with socket.create_server(("127.0.0.1", first)):
        other = choose_port(tmp_path)
    assert other != first
    assert choose_port(tmp_path) == other


@pytest.mark.parametrize("kept", ["", "x", "99999999", "-1"])
def test_a_damaged_note_of_the_port_is_replaced(tmp_path: Path, kept: str) -> None:
    (tmp_path / "port").write_text(kept)
    chosen = choose_port(tmp_path)
    assert chosen in server.PORTS
    assert (tmp_path / "port").read_text() == f"{chosen}\n"
