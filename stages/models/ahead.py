"""Pictures drawn while a GPU is busy with those before, and copied to it without waiting."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from torch import Tensor

Item = TypeVar("Item")
Drawn = TypeVar("Drawn")


def ahead(draw: Callable[[Item], Drawn], items: Iterable[Item], count: int, device: str) -> Iterator[Drawn]:
    """``map(draw, items)``; on a GPU one thread draws up to ``count`` items before they are asked for.

    On a CPU nothing is drawn ahead, as it is the CPU that would be waited for. What is drawn is the same.
    """
    if device == "cpu":
        yield from map(draw, items)
        return
    pool = ThreadPoolExecutor(1, "ahead")
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


def ready(tensor: Tensor, device: str) -> Tensor:
    """The tensor where a GPU can copy it from by itself: in pinned memory; as it is for a CPU."""
    return tensor if device == "cpu" else tensor.pin_memory()


def moved(tensor: Tensor, device: str) -> Tensor:
    """The tensor on the device; from pinned memory it gets there in its own time, in order with what uses it."""
    return tensor.to(device, non_blocking=True)
