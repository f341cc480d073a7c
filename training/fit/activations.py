"""How much memory a step's activations will take, known before it is taken: its passes are gone through in shapes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from training.config import Recipe
from training.families.base import Losses
from training.fit.groups import outlined, set_modes
from training.fit.memory import Memory, in_gib, remedies
from training.fit.parallel import Layout, as_family, innermost, recompute, wrap
from training.fit.shapes import CudaAutocast, Shapes
from training.noise import Noise
from training.stream.collate import Batch
from training.stream.tensors import to_tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """What one part of a batch takes on a rank beside weights, gradients and the optimiser.

    Attributes:
        bytes: At the peak of both passes; with copies of weights in bfloat16, and CLIP where it is read live.
        samples: In the part.
    """

    bytes: int
    samples: int

    def told(self, memory: Memory, room: int, recipe: Recipe) -> str:
        """What a person is to know of it, on a device with so much room."""
        total = memory.total + self.bytes
        said = f"activations: about {in_gib(self.bytes)} for {self.samples} samples at once, {in_gib(total)} in all"
        if total <= room:
            return said
        return f"{said}; that is more than there is ({in_gib(room)}): take {', or '.join(remedies(recipe))}"


_OF_SHAPES = (RuntimeError, AssertionError, TypeError, AttributeError)
"""What PyTorch and libraries on it raise of tensors without values."""


class EstimateError(ValueError):
    """A family whose passes can't be gone through in shapes."""


def activations_of(recipe: Recipe, batch: Batch, layout: Layout) -> Activations:
    """What a part of a batch takes, by the very code of its forward and backward pass.

    Gradients are there already, as in the second part of a batch. A unit that is compiled counts as if it were not,
    and what libraries take for themselves, such as cuDNN for its convolutions, is left out.

    Args:
        recipe: Whose family it is.
        batch: Any of as many samples as are taken at once.
        layout: Where it is to be computed.

    Raises:
        EstimateError: If the family does what needs values, such as branching on them.
    """
    family = outlined(recipe)
    is_cuda = layout.device.type == "cuda"
    _wrap_units(family, recipe, is_cuda)
    set_modes(family)
    shapes = Shapes()
    with _explained(), shapes:
        is_gathered_in_halves = recipe.precision == "bfloat16" and layout.shards > 1 and is_cuda  # no copies are made
        shapes.adopt(family, torch.bfloat16 if is_gathered_in_halves else None)
        shapes.count(family)
        with CudaAutocast() if is_cuda else torch.enable_grad():
            _pass(family, recipe, batch)
    return Activations(bytes=shapes.peak, samples=len(batch))


def _pass(family: nn.Module, recipe: Recipe, batch: Batch) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        losses: Losses = family(to_tensors(batch), Noise(recipe.seed, 0, range(len(batch))))
    torch.autograd.backward(losses.total)  # the method would be taken for an operation, and modes left


def _wrap_units(family: nn.Module, recipe: Recipe, is_cuda: bool) -> None:
    units = as_family(family).units()
    if is_cuda:
        for unit in innermost(units):
            wrap(unit, _in_cudas_types)
    if recipe.recompute:
        recompute(units)


def _in_cudas_types(forward: Callable[..., Any]) -> Callable[..., Any]:
    """In a backward pass, which computes some again, no mode is left from the forward one."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with CudaAutocast():
            return forward(*args, **kwargs)

    return run


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except _OF_SHAPES as error:
        raise EstimateError(
            f"activations: not known before the first step ({str(error).strip().splitlines()[0]})"
        ) from error
