"""How a family is spread over processes: its units sharded or copied, recomputed and compiled, from outside."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.utils.checkpoint import checkpoint

from training.config import Recipe
from training.families.base import Family

Mode: TypeAlias = Literal["auto", "single", "ddp", "fsdp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a family is computed.

    Attributes:
        mode: ``fsdp`` shards what trains over all ranks, ``ddp`` gives each a copy, ``single`` is for one rank;
            ``auto``: ``single`` alone, ``fsdp`` otherwise.
        device: Of this rank.
        size: Ranks.
    """

    mode: Mode
    device: torch.device
    size: int

    @property
    def shards(self) -> int:
        """Ranks that hold a copy of what is sharded together; 1: nothing is."""
        return self.size if self.mode in ("auto", "fsdp") else 1

    def mesh(self) -> DeviceMesh | None:
        """The ranks by who holds copies and who holds shards; ``None``: nothing is shared.

        Raises:
            ValueError: If several ranks are to work as one.
        """
        if self.mode == "single" and self.size > 1:
            raise ValueError(f"mode single is for one rank, got {self.size}; take ddp or fsdp")
        if self.mode == "ddp":
            return init_device_mesh(self.device.type, (self.size, 1), mesh_dim_names=("copy", "shard"))
        if self.mode == "fsdp" or self.shards > 1:
            return init_device_mesh(self.device.type, (self.size,), mesh_dim_names=("shard",))
        return None


def as_family(module: nn.Module) -> Family:
    """The module as what it must be.

    Raises:
        TypeError: If it lacks a method that families have.
    """
    if not isinstance(module, Family):
        raise TypeError(f"{type(module).__name__} is no Family: it needs insertion, forward, sample and units")
    return module


def spread(family: nn.Module, recipe: Recipe, layout: Layout) -> None:
    """Move a family to its place, in place; the names of its parameters stay.

    Activations are recomputed per innermost unit; the outermost are compiled. What trains, and units whole, are
    sharded or copied; frozen parameters outside of units are on every rank.
    """
    units = as_family(family).units()
    if recipe.recompute:
        recompute(units)
    if recipe.compile:
        for unit in _outermost(units):
            wrap(unit, torch.compile)
    mesh = layout.mesh()
    if mesh is not None:
        _shard(family, units, recipe, mesh)
    family.to(layout.device)


def recompute(units: Sequence[nn.Module]) -> None:
    """Let the innermost units' activations be computed again in the backward pass."""
    for unit in innermost(units):
        wrap(unit, lambda forward: partial(checkpoint, forward, use_reentrant=False))


def wrap(unit: nn.Module, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Only ``forward`` is wrapped, so that names of parameters stay clean and hooks stay outside."""
    cast(Any, unit).forward = wrapper(unit.forward)


def innermost(units: Sequence[nn.Module]) -> list[nn.Module]:
    """Those of units that hold no other."""
    chosen = set(units)
    return [unit for unit in units if not any(part in chosen for part in unit.modules() if part is not unit)]


def hold_gradients(family: nn.Module, hold: bool) -> None:
    """Keep gradients to oneself in backward passes to come, or share them."""
    if isinstance(family, FSDPModule):
        family.set_requires_gradient_sync(not hold)


@contextmanager
def evaluated(family: nn.Module) -> Iterator[None]:
    """The family in evaluation mode meanwhile; its modes are put back, and what was gathered is let go.

    The latter as the parameters may be others meanwhile than before and after.
    """
    modes = {part: part.training for part in family.modules()}
    family.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
            if isinstance(part, FSDPModule):
                part.reshard()


def _shard(family: nn.Module, units: Sequence[nn.Module], recipe: Recipe, mesh: DeviceMesh) -> None:
    """As the forward pass goes on under autocast, inputs keep their types: autocast casts where it is due.

    On the CPU it leaves norms alone, which take no bfloat16 weights beside float32 inputs: there it casts weights too.
    """
    is_halved = recipe.precision == "bfloat16" and mesh.device_type != "cpu"
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if is_halved else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    # a copied family's parameters stay put; a sharded one's leave as soon as they are used
    apart = partial(fully_shard, mesh=mesh, mp_policy=policy, reshard_after_forward=mesh.ndim == 1)
    for unit in units:
        if any(True for _ in unit.parameters()):
            apart(unit)
    inside = {parameter for unit in units for parameter in unit.parameters()}
    frozen = {parameter for parameter in family.parameters() if not parameter.requires_grad}
    apart(family, reshard_after_forward=True, ignored_params=frozen - inside)
    assert isinstance(family, FSDPModule)
    family.set_reduce_scatter_unused_params(True)  # such as what reads pictures, on a rank whose samples have none
    register_fsdp_forward_method(family, "sample")


def _outermost(units: Sequence[nn.Module]) -> list[nn.Module]:
    held = {part for unit in units for part in unit.modules() if part is not unit}
    return [unit for unit in units if unit not in held]
