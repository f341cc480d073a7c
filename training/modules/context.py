"""The context: what a denoiser looks at."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Context:
    """What a denoiser's cross-attention looks at: tokens, and which of them are there."""

    tokens: Float[Tensor, "sample token context"]
    mask: Bool[Tensor, "sample token"]
