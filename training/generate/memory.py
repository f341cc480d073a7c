"""Too little memory to draw, in words."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_OF_CPU = "DefaultCPUAllocator"
"""Begins what PyTorch's allocator says of the CPU, for which it has no class of its own."""


class DrawingShortageError(ValueError):
    """Pictures that do not fit into memory."""


@contextmanager
def explained_shortage(pictures: int, device: torch.device | str) -> Iterator[None]:
    """Say what to change where so many pictures at once are too many, or one is too large.

    Raises:
        DrawingShortageError: If they are.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and _OF_CPU not in str(error):
            raise
        smaller = f"--batch {pictures // 2}" if pictures > 1 else "a smaller --size"
        many = f"{pictures} pictures at once" if pictures > 1 else "one picture of this size"
        raise DrawingShortageError(f"{device} has too little memory for {many}: take {smaller}") from error
