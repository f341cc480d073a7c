"""How much memory a run's tensors will take, known before any of them is made."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import torch
from torch import nn

from training.config import Recipe
from training.fit.parallel import as_family

_FLOAT32, _BFLOAT16 = 4, 2
_CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of one rank's tensors, activations left out: these depend on ``micro_batch`` and ``recompute``.

    Attributes:
        frozen: Parameters that don't train, and buffers, as the family keeps them.
        masters: Parameters that train, float32.
        gradients: Of these, float32.
        moments: AdamW's two of each, float32.
        averages: Moving averages, float32.
        gathered: The largest unit, whole, while it is computed; 0 where nothing is sharded.
    """

    frozen: int
    masters: int
    gradients: int
    moments: int
    averages: int
    gathered: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(astuple(self))

    def __str__(self) -> str:
        named = ("frozen", "masters", "gradients", "moments", "averages", "gathered")
        parts = ", ".join(f"{name} {in_gib(getattr(self, name))}" for name in named if getattr(self, name))
        return f"{in_gib(self.total)} a rank before activations: {parts}"


def memory_of(family: nn.Module, recipe: Recipe, shards: int) -> Memory:
    """Of a rank of a family whose groups are chosen, sharded as :func:`training.fit.parallel.spread` does it."""
    units = as_family(family).units()
    inside = {parameter for unit in units for parameter in unit.parameters()}
    trained = [parameter for parameter in family.parameters() if parameter.requires_grad]
    frozen = [parameter for parameter in family.parameters() if not parameter.requires_grad]
    masters = sum(_split(parameter.numel(), shards) for parameter in trained) * _FLOAT32
    kept = sum(_split(p.numel(), shards if p in inside else 1) * p.element_size() for p in frozen)
    width = _BFLOAT16 if recipe.precision == "bfloat16" else _FLOAT32
    largest = max((sum(p.numel() for p in unit.parameters()) for unit in units), default=0)
    return Memory(
        frozen=kept + sum(buffer.nbytes for buffer in family.buffers()),
        masters=masters,
        gradients=masters,
        moments=2 * masters,
        averages=0 if recipe.ema is None else masters,
        gathered=largest * width if shards > 1 else 0,
    )


def available(device: torch.device) -> int:
    """Bytes that a rank may have: its GPU's, or its share of this machine's."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CGROUP.read_text().strip() if _CGROUP.exists() else "max"
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(host, int(limit) if limit.isdigit() else host) // ranks


def shortage(memory: Memory, room: int, device: torch.device) -> str | None:
    """What to say if it doesn't fit; ``None`` if it does."""
    if memory.total <= room:
        return None
    return (
        f"too little memory: {memory}, but {device} has {in_gib(room)}; shard over more ranks (mode fsdp), "
        "train less (groups of mode lora or frozen), or set ema=None"
    )


class MemoryShortageError(ValueError):
    """A step that does not fit into the GPU's memory."""


@contextmanager
def explained_shortage(recipe: Recipe) -> Iterator[None]:
    """Say what to change where a GPU runs out of memory.

    Raises:
        MemoryShortageError: If it does.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryShortageError(
            f"the GPU has too little memory for {recipe.micro_batch} samples at once: take "
            f"{', or '.join(remedies(recipe))}; a resumed run takes all of these but smaller pictures "
            f"({str(error).partition('. ')[0]})"
        ) from error


def remedies(recipe: Recipe) -> Iterator[str]:
    """What makes a step smaller."""
    if recipe.micro_batch == 1:
        yield "smaller pictures"
    elif not recipe.family.contrasts_samples:
        yield f"micro_batch={recipe.micro_batch // 2}"
    if not recipe.recompute:
        yield "recompute=True"
    yield "more ranks"


def in_gib(size: int) -> str:
    """A size as people read it."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.2f} MiB"


def _split(count: int, shards: int) -> int:
    """The largest shard of so many values."""
    return -(-count // shards)
