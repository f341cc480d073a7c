"""What a run takes of a device's memory before it looks at a sample, counted without a byte of weights.

What the samples of a part take on top, activations above all, is known once the first step was taken: the log says it
(``memory_gib``), and a step that does not fit says what to change.
"""

import os
import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from rich.table import Table
from torch import Tensor, nn

from training.config import Recipe
from training.fit.groups import choose
from training.fit.parallel import Mode, as_family

GIB = 2**30
_FLOAT, _BFLOAT = 4, 2
_RESERVE = 0.05
"""Share of a device that is left to its driver and to fragments. Our choice."""


class TooLittleMemoryError(ValueError):
    """A run that the device has no room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Bytes that a rank holds whatever the samples are.

    Attributes:
        frozen: Parameters that don't train, in their own types.
        weights: Those that train, float32.
        gradients: Of these, float32.
        moments: AdamW's two, float32.
        averages: Moving averages, float32.
        gathered: What is whole for a while where parameters are sharded: two units at once in the type of the
            computation, and the float32 gradients of one.
        buffers: Of the family.
    """

    frozen: int
    weights: int
    gradients: int
    moments: int
    averages: int
    gathered: int
    buffers: int

    @property
    def total(self) -> int:
        """All together."""
        return sum(getattr(self, part.name) for part in fields(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """How many share the work, and how."""

    size: int = 1
    mode: Mode = "auto"

    @property
    def is_sharded(self) -> bool:
        """Whether each holds a part of what trains."""
        return self.mode == "fsdp" or (self.mode == "auto" and self.size > 1)


def fixed_memory(recipe: Recipe, ranks: Ranks) -> Fixed:
    """What a rank of a run holds, counted on a family without a byte of weights.

    Exact but for ``gathered``; that units whose size the ranks don't divide are padded is left out.

    Raises:
        ValueError: If the family's parts don't fit each other, or the recipe's groups its parameters.
    """
    with torch.device("meta"):
        family = recipe.family.build(load=False)
        choose(family, recipe.groups)
    return fixed_memory_of(family, recipe, ranks)


def fixed_memory_of(family: nn.Module, recipe: Recipe, ranks: Ranks) -> Fixed:
    """The same of a family that is there, as a whole; what trains was chosen."""
    units = [list(unit.parameters()) for unit in as_family(family).units()]
    in_units = {parameter for unit in units for parameter in unit}
    share = ranks.size if ranks.is_sharded else 1
    frozen = [parameter for parameter in family.parameters() if not parameter.requires_grad]
    trained = sum(p.numel() for p in family.parameters() if p.requires_grad) // share
    return Fixed(
        frozen=_size(p for p in frozen if p in in_units) // share + _size(p for p in frozen if p not in in_units),
        weights=trained * _FLOAT,
        gradients=trained * _FLOAT,
        moments=2 * trained * _FLOAT,
        averages=0 if recipe.ema is None else trained * _FLOAT,
        gathered=_gathered(units, recipe) if share > 1 else 0,
        buffers=_size(family.buffers()),
    )


def _gathered(units: list[list[nn.Parameter]], recipe: Recipe) -> int:
    width = _BFLOAT if recipe.precision == "bfloat16" else _FLOAT
    whole = max((sum(p.numel() for p in unit) for unit in units), default=0)
    trained = max((sum(p.numel() for p in unit if p.requires_grad) for unit in units), default=0)
    return 2 * whole * width + trained * _FLOAT


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def capacity(device: torch.device) -> int:
    """Bytes that a run may take of a device: of a GPU all but a reserve, of the CPU what its machine has free."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * (1 - _RESERVE))
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(fixed: Fixed, capacity: int, ranks: Ranks) -> None:
    """See that a rank's fixed part fits.

    Raises:
        TooLittleMemoryError: If it doesn't; the message says what would help.
    """
    if fixed.total <= capacity:
        return
    more = (
        "more GPUs, over which it is sharded" if ranks.size == 1 or ranks.is_sharded else "mode fsdp, which shards it"
    )
    raise TooLittleMemoryError(
        f"a rank needs {fixed.total / GIB:.1f} GiB before its first sample ({describe(fixed)}), and has "
        f"{capacity / GIB:.1f} GiB: take {more}, train less of the family (lora, or frozen groups), or ema=None"
    )


def describe(fixed: Fixed) -> str:
    """The parts that are not nothing, in words."""
    sizes = {part.name: getattr(fixed, part.name) / GIB for part in fields(fixed)}
    return ", ".join(f"{name} {size:.2f} GiB" for name, size in sizes.items() if size >= 0.005) or "under 0.01 GiB"


def used(device: torch.device) -> int:
    """Bytes that this process held at most on a device since it was last asked; of the CPU, since it began."""
    if device.type == "cuda":
        most = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return most
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def explained(recipe: Recipe) -> Iterator[None]:
    """Say what to change where the device runs out of memory.

    Raises:
        TooLittleMemoryError: If it does.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = f"micro_batch={max(recipe.micro_batch // 2, 1)}" if recipe.micro_batch > 1 else "a smaller size"
        recompute = "" if recipe.recompute else ", recompute=True"
        raise TooLittleMemoryError(
            f"the GPU's memory is too small for a part of {recipe.micro_batch} samples: take {smaller}{recompute}, or "
            f"more GPUs ({str(error).partition('.')[0]})"
        ) from error


def memory_table(recipe: Recipe, sizes: Iterable[int] = (1, 2, 4, 8)) -> Table:
    """What a rank holds before its first sample, on so many GPUs."""
    table = Table("GPUs", *(part.name for part in fields(Fixed)), "total", title=f"{recipe.name}: GiB a GPU")
    for size in sizes:
        fixed = fixed_memory(recipe, Ranks(size=size))
        parts = [getattr(fixed, part.name) for part in fields(fixed)]
        table.add_row(str(size), *(f"{part / GIB:.2f}" for part in (*parts, fixed.total)))
    return table
