"""The world: how many ranks share a batch, and how they agree."""

import os
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Group(Protocol):
    """How ranks speak with each other. Every rank makes the same calls in the same order."""

    def share(self, value: T) -> T:
        """The first rank's value, on every rank."""
        ...

    def gather(self, value: T) -> list[T]:
        """Every rank's value in rank order, on every rank."""
        ...


class Alone:
    """A world of one rank, or ranks that need not speak because they are given the same."""

    def share(self, value: T) -> T:
        """The value."""
        return value

    def gather(self, value: T) -> list[T]:
        """The value alone."""
        return [value]


class TorchGroup:
    """The default process group of ``torch.distributed``."""

    def share(self, value: T) -> T:
        """The first rank's value, on every rank."""
        import torch.distributed

        box: list[Any] = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        shared: T = box[0]
        return shared

    def gather(self, value: T) -> list[T]:
        """Every rank's value in rank order, on every rank."""
        import torch.distributed

        boxes: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(boxes, value)
        return boxes


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Ranks that share each global batch.

    Attributes:
        rank: This process, from 0.
        size: How many there are.
        group: How they agree on what is read and gather what was quarantined.
    """

    rank: int = 0
    size: int = 1
    group: Group = field(default_factory=Alone)

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"a rank must be in range({self.size}), got {self.rank}")

    @classmethod
    def from_env(cls) -> "World":
        """The world that torchrun and Ray Train set up: ``RANK`` and ``WORLD_SIZE``; one rank where they aren't set.

        Raises:
            RuntimeError: If there are several ranks and no process group yet.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        import torch.distributed

        if not torch.distributed.is_initialized():
            raise RuntimeError(
                f"WORLD_SIZE is {size}, but torch.distributed has no process group: call "
                "torch.distributed.init_process_group() first, or give World(rank=…, size=…, group=…)"
            )
        return cls(rank=torch.distributed.get_rank(), size=torch.distributed.get_world_size(), group=TorchGroup())

    def slots(self, batch_size: int, accumulation: int, part: int) -> range:
        """This rank's places in a global batch, for one of the parts it takes it in.

        Raises:
            ValueError: If the batch can't be shared evenly; the message names the sizes that would do.
        """
        shares = self.size * accumulation
        if batch_size % shares:
            raise ValueError(_uneven(batch_size, self.size, accumulation))
        share = batch_size // shares
        first = (self.rank * accumulation + part) * share
        return range(first, first + share)


def _uneven(batch_size: int, size: int, accumulation: int) -> str:
    sizes = [ranks for ranks in range(1, batch_size + 1) if batch_size % (ranks * accumulation) == 0]
    steps = f" in {accumulation} parts each" if accumulation > 1 else ""
    near = sorted(sizes, key=lambda ranks: abs(ranks - size))[:6]
    fits = f"world sizes near it that would do: {sorted(near)}" if near else "no world size would do"
    return (
        f"a global batch of {batch_size} can't be shared by {size} ranks{steps}; {fits}; "
        f"or take a batch size that {size * accumulation} divides"
    )
