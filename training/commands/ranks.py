"""Which of the processes that torchrun starts tells of an error: the first of those that have the same."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch stays out of what only prints help
    from torch.distributed import Store  # type: ignore[attr-defined]

_PATIENCE = timedelta(seconds=5)
"""How long ranks that fail wait for each other's word."""

_PAUSE_S = 0.05
_MESSAGE, _READ = "message", "read"


_LOST = ("Connection closed by peer", "Connection reset by peer")
"""What gloo says in the others when a rank has ended; it has no class of errors of its own."""


def is_lost(error: RuntimeError) -> bool:
    """Whether an error is but that another rank has ended."""
    return any(said in str(error) for said in _LOST)


@contextmanager
def speaker_of(message: str) -> Iterator[str | None]:
    """What this process is to say before its error: nothing, or its number; ``None``: the first rank says the same.

    Ranks fail apart from each other, in any place, so they do not meet in a collective call: the first leaves its
    message in the store by which they found each other. A rank that finds none, or another, speaks for itself.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1 and rank:
        yield None if _read(rank) == message else f"rank {rank}: "
    else:
        yield ""
        if size > 1:
            _leave(message, size)


def _leave(message: str, size: int) -> None:
    """Leave a message, and stay until it is read, as the store may be this process's own."""
    from torch.distributed import DistError

    with suppress(DistError, ValueError):  # the others did not fail, or not yet; or there is no such store
        store = _store()
        store.set(_MESSAGE, message)
        _await(store, [f"{_READ}/{rank}" for rank in range(1, size)])


def _read(rank: int) -> str | None:
    from torch.distributed import DistError

    try:
        store = _store()
        if not _await(store, [_MESSAGE]):
            return None
        message: str = store.get(_MESSAGE).decode()
        store.set(f"{_READ}/{rank}", "")
    except (DistError, ValueError):  # the first ended long ago; or no store is named
        return None
    return message


def _await(store: "Store", keys: list[str]) -> bool:
    """Whether all come in time; asked again and again, as the store's own way to wait warns of its end."""
    end = time.monotonic() + _PATIENCE.total_seconds()
    while not store.check(keys):
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE_S)
    return True


def _store() -> "Store":
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    store, _, _ = next(rendezvous("env://", timeout=_PATIENCE))
    return PrefixStore("inlay/error", store)
