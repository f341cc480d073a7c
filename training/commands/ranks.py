"""Which of the processes that torchrun starts tells of an error: the first of those that have the same."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch stays out of what only prints help
    from torch.distributed import Store  # type: ignore[attr-defined]

_PATIENCE = timedelta(seconds=5)
"""How long ranks that fail wait for each other's word."""

_MESSAGE, _READ = "message", "read"


@contextmanager
def speaker_of(message: str) -> Iterator[str | None]:
    """What this process is to say before its error: nothing, or its number; ``None``: the first rank says the same.

    Ranks fail apart from each other, in any place, so they do not meet in a collective call: the first leaves its
    message in the store by which they found each other. A rank that finds none, or another, speaks for itself.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if rank:
        yield None if _read(rank) == message else f"rank {rank}: "
    else:
        yield ""
        if size > 1:
            _leave(message, size)


def _leave(message: str, size: int) -> None:
    """Leave a message, and stay until it is read, as the store may be this process's own."""
    from torch.distributed import DistError

    with suppress(DistError):  # the others did not fail, or not yet
        store = _store()
        store.set(_MESSAGE, message)
        store.wait([f"{_READ}/{rank}" for rank in range(1, size)], _PATIENCE)


def _read(rank: int) -> str | None:
    from torch.distributed import DistError

    try:
        store = _store()
        store.wait([_MESSAGE], _PATIENCE)
        message: str = store.get(_MESSAGE).decode()
        store.set(f"{_READ}/{rank}", "")
    except DistError:
        return None
    return message


def _store() -> "Store":
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    store, _, _ = next(rendezvous("env://", timeout=_PATIENCE))
    return PrefixStore("inlay/error", store)
