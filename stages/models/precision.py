"""The type that a network computes in."""

from typing import Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]


def dtype_of(precision: Precision, device: str) -> torch.dtype:
    """The type; ``auto`` is bfloat16 on GPUs, float32 on CPUs."""
    is_short = precision == "bfloat16" or (precision == "auto" and device != "cpu")
    return torch.bfloat16 if is_short else torch.float32
