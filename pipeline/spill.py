"""How much of its object store Ray has had to write to disk."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

from pipeline.live import Live

_EVERY_S = 5.0
_ANSWER_S = 10.0


def spilled_bytes() -> int | None:
    """Bytes that all machines of the Ray this process is connected to have spilled since they were started.

    Nothing if Ray does not say, as while a machine is lost. It tells nowhere but in its metrics and here, as of 2.60;
    Ray Data asks in the same way for its statistics.
    """
    try:
        state = get_state_from_address(ray.get_runtime_context().gcs_address)
        return int(get_memory_info_reply(state, timeout_seconds=_ANSWER_S).store_stats.spilled_bytes_total)
    except (OSError, RuntimeError, AssertionError, grpc.RpcError):
        return None


class Spilled:
    """What is spilled while it is looked at.

    The sum over all machines falls when one is lost that has spilled; what the others spilled since the last look is
    then not known.

    Attributes:
        bytes: So far.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._last: int | None = None

    def saw(self, now: int | None) -> None:
        """Take in what all machines have spilled as of now, if it is known."""
        if now is None:
            return
        if self._last is not None:
            self.bytes += max(0, now - self._last)
        self._last = now


@contextmanager
def watching_spills(live: Live) -> Iterator[None]:
    """Keep ``live.spilled``, from 0 on, while inside; it is up to date afterwards."""
    spilled, stopped = Spilled(), threading.Event()
    spilled.saw(spilled_bytes())
    watch = threading.Thread(target=_watch, args=(live, spilled, stopped), daemon=True)
    watch.start()
    try:
        yield
    finally:
        stopped.set()
        watch.join()


def _watch(live: Live, spilled: Spilled, stopped: threading.Event) -> None:
    is_last = False
    while not is_last:
        is_last = stopped.wait(_EVERY_S)
        spilled.saw(spilled_bytes())
        live.spilled = spilled.bytes
