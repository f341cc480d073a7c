import socket
import threading

import pytest

from stages.base import Fail
from stages.web import names
from stages.web.names import SystemLookup
from tests.stages.web.conftest import Wire


def test_names_that_no_one_answers_for_hold_up_no_others(plain: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their lookups go on in their threads after their requests have given up."""
    is_over = threading.Event()

    def look_up(host: str) -> list[tuple[int, int, int, str, tuple[str | int, ...]]]:
        if host.startswith("dead"):
            is_over.wait(60)
            raise OSError(socket.EAI_AGAIN, "no answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(names, "_look_up", look_up)
    dead = [plain.url("good", host=f"dead{number}.test") for number in range(12)]
    *given_up, last = plain.fetch(
        *dead, plain.url("good", host="one.test"), lookup=SystemLookup(4), in_flight=4, connect_s=2, retries=0
    )
    is_over.set()
    assert [result.reason for result in given_up if isinstance(result, Fail)] == ["timeout"] * 12
    assert not isinstance(last, Fail)
