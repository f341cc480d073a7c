"""What CPUs do while a GPU is busy: draw the pictures that are next, copy them to it, work on what it found."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from torch import Tensor

Item = TypeVar("Item")
Drawn = TypeVar("Drawn")
Found = TypeVar("Found")
Done = TypeVar("Done")

_THREADS = 2
"""Decoding, resizing and cleaning masks leave Python's lock; more threads than this would wait for it."""


def ahead(
    draw: Callable[[Item], Drawn], items: Iterable[Item], count: int, device: str, threads: int = _THREADS
) -> Iterator[Drawn]:
    """``map(draw, items)``; on a GPU threads draw up to ``count`` items before they are asked for.

    On a CPU nothing is drawn ahead, as it is the CPU that would be waited for. What is drawn is the same.
    """
    if device == "cpu":
        yield from map(draw, items)
        return
    pool = ThreadPoolExecutor(threads, "ahead")
    waiting: deque[Future[Drawn]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(draw, item))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def behind(work: Callable[[Found], Done], found: Iterable[Found], device: str) -> Sequence[Done]:
    """``map(work, found)``; with a GPU threads work on what it found while it goes on to what is found next."""
    if device == "cpu":
        return list(map(work, found))
    with ThreadPoolExecutor(_THREADS, "behind") as pool:
        return [future.result() for future in [pool.submit(work, each) for each in found]]


def ready(tensor: Tensor, device: str) -> Tensor:
    """The tensor where a GPU can copy it from by itself: in pinned memory; as it is for a CPU."""
    return tensor if device == "cpu" else tensor.pin_memory()


def moved(tensor: Tensor, device: str) -> Tensor:
    """The tensor on the device; from pinned memory it gets there in its own time, in order with what uses it."""
    return tensor.to(device, non_blocking=True)
