"""How many parameters a recipe's family has, and how many of them train; counted without a byte of weights."""

from dataclasses import dataclass

from torch import nn

from training.config import Recipe
from training.fit.groups import outlined


@dataclass(frozen=True, slots=True)
class Count:
    """Parameters of a part of a family: all, and those that train."""

    part: str
    total: int
    trained: int


def count_parameters(recipe: Recipe) -> tuple[Count, ...]:
    """Of each part of a recipe's family, low-rank updates included; a parameter of two parts counts in the first.

    Raises:
        ValueError: If the family's parts don't fit each other, or the recipe's groups its parameters.
    """
    parts: dict[str, list[nn.Parameter]] = {}
    for name, parameter in outlined(recipe).named_parameters():
        parts.setdefault(name.partition(".")[0], []).append(parameter)
    return tuple(
        Count(part, sum(p.numel() for p in found), sum(p.numel() for p in found if p.requires_grad))
        for part, found in parts.items()
    )
