"""EMMA's assemblable gated perceiver resampler: what lets a connector read a condition beside the text.

Source: Han et al. 2024, "EMMA: Your Text-to-Image Diffusion Model Can Secretly Accept Multi-Modal Prompts", section 3.
Blocks of it stand between those of the connector, which stay as they are. Where the paper is silent: inside, a block is
as the connector's; a gate is one number a token and block, 1 at first, times one learned number a block.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.modules.ella import AdaLayerNorm, EllaSizes, feed_forward, read
from training.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class EmmaCondition:
    """A condition, and the blocks that read it.

    Attributes:
        name: Of its part of the family: its parameters begin with ``branches.NAME``.
        network: Middle of its features' names.
        vector_dim: Channels of its vector.
        vector_tokens: Tokens made of that.
        local_dim: Channels of its local features; ``None``: the vector alone is read.
        local_tokens: How many there are.
        scale: Lambda of equations 5 to 8: how much it says; 0: nothing.
        encoder: CLIP, for pictures without features; ``None``: nothing reads those here.
        strength: What A and F of equations 5 and 6 begin with. 0: the family draws as the connector alone does, bit for
            bit, and of the first step's gradients only those of A and F are not 0. Ours.
    """

    name: str
    network: str = "clip"
    vector_dim: int = 1024
    vector_tokens: int = 1
    local_dim: int | None = 1280
    local_tokens: int = 257
    scale: float = 1.0
    encoder: Weights | None = None
    strength: float = 0.0

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"a condition's name must be a word of letters, digits and _, got {self.name!r}")
        if not 0 <= self.scale < math.inf:
            raise ValueError(f"the scale of {self.name} must be a number from 0, got {self.scale}")

    @property
    def tokens(self) -> int:
        """That the blocks read."""
        return self.vector_tokens + (0 if self.local_dim is None else self.local_tokens)


class GatedAttention(nn.Module):
    """``lambda * Linear(L) * A * attention(L, C, t)``: what equations 3 and 5 add to the latents."""

    def __init__(self, width: int, heads: int, strength: float) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = AdaLayerNorm(width)
        self.ln_2 = AdaLayerNorm(width)
        self.gate = Gate(width, strength)

    def forward(
        self,
        latents: Float[Tensor, "sample latent width"],
        condition: Float[Tensor, "sample token width"],
        time: Float[Tensor, "sample width"],
        scale: Float[Tensor, " sample"],
    ) -> Float[Tensor, "sample latent width"]:
        """What is to be added."""
        found = read(self.attn, self.ln_1(latents, time), self.ln_2(condition, time))
        return self.gate(latents, scale) * found


class GatedFeedForward(nn.Module):
    """``lambda * Linear(L) * F * ffn(L, t)``: what equations 4 and 6 add to the latents."""

    def __init__(self, width: int, strength: float) -> None:
        super().__init__()
        self.mlp = feed_forward(width)
        self.ln_ff = AdaLayerNorm(width)
        self.gate = Gate(width, strength)

    def forward(
        self,
        latents: Float[Tensor, "sample latent width"],
        time: Float[Tensor, "sample width"],
        scale: Float[Tensor, " sample"],
    ) -> Float[Tensor, "sample latent width"]:
        """What is to be added."""
        return self.gate(latents, scale) * self.mlp(self.ln_ff(latents, time))


class Gate(nn.Module):
    """``lambda * Linear(L) * A``: one number a token."""

    def __init__(self, width: int, strength: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.ones_(self.linear.bias)
        self.strength = nn.Parameter(torch.full((1,), strength))

    def forward(
        self, latents: Float[Tensor, "sample latent width"], scale: Float[Tensor, " sample"]
    ) -> Float[Tensor, "sample latent 1"]:
        """The gate of each token."""
        return scale[:, None, None] * self.linear(latents) * self.strength


class GatedBlock(nn.Module):
    """A condition's block: both of its halves are asked apart, as conditions that are assembled take turns."""

    def __init__(self, sizes: EllaSizes, strength: float) -> None:
        super().__init__()
        self.attention = GatedAttention(sizes.width, sizes.heads, strength)
        self.feed_forward = GatedFeedForward(sizes.width, strength)


class Branch(nn.Module):
    """A condition's projections, and its blocks: as many as the connector has."""

    def __init__(self, condition: EmmaCondition, sizes: EllaSizes) -> None:
        super().__init__()
        self.condition = condition
        self.vector = nn.Linear(condition.vector_dim, condition.vector_tokens * sizes.width)
        self.local = None if condition.local_dim is None else nn.Linear(condition.local_dim, sizes.width)
        self.blocks = nn.ModuleList(GatedBlock(sizes, condition.strength) for _ in range(sizes.layers))

    def block(self, number: int) -> GatedBlock:
        """The one after the connector's of the same number."""
        found = self.blocks[number]
        assert isinstance(found, GatedBlock)
        return found

    def forward(
        self, vectors: Float[Tensor, "sample vector"], local: Float[Tensor, "sample token local"] | None
    ) -> Float[Tensor, "sample token width"]:
        """The tokens that the blocks read: those of the vector, then those of the local features."""
        tokens = self.vector(vectors).unflatten(-1, (self.condition.vector_tokens, -1))
        if self.local is None:
            return tokens
        assert local is not None, "conditions with local features are read with them"
        return torch.cat([tokens, self.local(local)], dim=1)


@dataclass(frozen=True, slots=True)
class Assembled:
    """A branch at work.

    Attributes:
        branch: Whose blocks.
        tokens: They read.
        scale: Lambda by sample; 0 where the condition is left out, which is as if the branch were not there.
    """

    branch: Branch
    tokens: Float[Tensor, "sample token width"]
    scale: Float[Tensor, " sample"]


def assemble(
    branches: Sequence[Assembled],
    number: int,
    latents: Float[Tensor, "sample latent width"],
    time: Float[Tensor, "sample width"],
) -> Float[Tensor, "sample latent width"]:
    """The latents after the branches' blocks of a number: equations 3 and 4, or of several branches 7 and 8.

    All of them read the same latents, so that it doesn't matter which comes first.
    """
    if not branches:
        return latents
    blocks = [each.branch.block(number) for each in branches]
    latents = latents + sum(
        block.attention(latents, each.tokens, time, each.scale) for block, each in zip(blocks, branches, strict=True)
    )
    return latents + sum(
        block.feed_forward(latents, time, each.scale) for block, each in zip(blocks, branches, strict=True)
    )
