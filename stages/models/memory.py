"""Out of memory: a network's calls are halved once, stay so, and a second time ends the run."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_TEXTS = ("CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")
"""How torch says that memory is short where it does not raise ``OutOfMemoryError``."""


class NetworkMemoryError(MemoryError):
    """A network's calls need more memory than there is, also after they were halved: every record would fare alike."""


@dataclass(slots=True)
class CallSize:
    """How many items a network takes at once. Kept for a worker's life, as what ran out of memory once would again.

    Attributes:
        size: Items a call.
        parameter: The stage's parameter that sets it, for the message.
        is_halved: Memory was short once.
    """

    size: int
    parameter: str
    is_halved: bool = field(default=False, init=False)

    def run(self, items: Iterable[Item], call: Callable[[Sequence[Item], int], Sequence[Result]]) -> list[Result]:
        """A result for every item, in order, as :meth:`stream`."""
        return list(self.stream(items, call))

    def stream(
        self, items: Iterable[Item], call: Callable[[Sequence[Item], int], Sequence[Result]]
    ) -> Iterator[Result]:
        """A result for every item, in order, as soon as its call is done.

        Args:
            items: Any number; taken as they are needed.
            call: Takes at most as many items as its second argument says, which is what a full call holds; gives a
                result for each. It is called again with fewer if memory was short, so it must change nothing else.

        Raises:
            NetworkMemoryError: If memory is short and the calls are halved already, or hold a single item.
        """
        waiting = iter(items)
        while part := list(islice(waiting, self.size)):
            yield from self._attempt(part, call)

    def _attempt(
        self, part: Sequence[Item], call: Callable[[Sequence[Item], int], Sequence[Result]]
    ) -> Sequence[Result]:
        try:
            found = call(part, self.size)
        except RuntimeError as error:
            if not _is_short_of_memory(error):
                raise
            self._halve(error)
        else:
            assert len(found) == len(part), f"{len(found)} results for {len(part)} items"
            return found
        return self.run(part, call)

    def _halve(self, error: RuntimeError) -> None:
        if self.is_halved or self.size == 1:
            raise NetworkMemoryError(self._remedy(error)) from error
        self.size, self.is_halved = self.size // 2, True
        error.with_traceback(None)  # its frames hold the tensors that filled the memory
        torch.cuda.empty_cache()
        logging.getLogger(__name__).warning("out of memory: %s is now %d", self.parameter, self.size)

    def _remedy(self, error: RuntimeError) -> str:
        tried = f"{self.parameter} = {self.size}" + (", which is halved already" if self.is_halved else "")
        lower = "choose a smaller model or smaller images" if self.size == 1 else f"lower {self.parameter}"
        cause = " ".join(str(error).split())[:200]
        return f"out of memory at {tried}: {lower} of this node, or give it a larger num_gpus ({cause})"


def _is_short_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _TEXTS)
