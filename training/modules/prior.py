"""λ-ECLIPSE's prior: text states that hold subjects, to the CLIP vector of the picture, in one step.

Source: Patel et al. 2024, "λ-ECLIPSE", section 3.2; unCLIP's prior (Ramesh et al. 2022) without time. Parameters have
the names of diffusers' ``PriorTransformer`` and of the released weights, which have ``embedding_control`` beside them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from training.torchvision_compat import ensure_torchvision

HIDDEN = -10_000.0
"""Added to the scores of what is not to be seen. Source: unCLIP's and diffusers' prior."""

AUXILIARY = 4
"""Positions after the text: control, pooled text, noise, and the query that becomes the vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorSizes:
    """Sizes of the prior.

    Attributes:
        dim: Of CLIP's vectors and text states.
        text_tokens: Positions of the text.
        heads: Of attention.
        head_dim: Channels of each; the width is ``heads * head_dim``.
        layers: Transformer blocks.
    """

    dim: int
    text_tokens: int
    heads: int
    head_dim: int
    layers: int

    @property
    def width(self) -> int:
        """Channels inside."""
        return self.heads * self.head_dim


PAPER_PRIOR = PriorSizes(dim=1280, text_tokens=77, heads=16, head_dim=32, layers=10)
"""λ-ECLIPSE's: 34,849,536 parameters, the paper's 34M."""


class Prior(nn.Module):
    """The transformer. Its sequence is text, control, pooled text, noise, query; each sees those before it."""

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__()
        dim, width, length = sizes.dim, sizes.width, sizes.text_tokens + AUXILIARY
        self.sizes = sizes
        self.encoder_hidden_states_proj = nn.Linear(dim, width)
        self.embedding_control = nn.Linear(dim, width)
        self.embedding_proj = nn.Linear(dim, width)
        self.proj_in = nn.Linear(dim, width)
        self.prd_embedding = nn.Parameter(torch.zeros(1, 1, width))
        self.positional_embedding = nn.Parameter(torch.zeros(1, length, width))
        self.transformer_blocks = nn.ModuleList(_block(sizes) for _ in range(sizes.layers))
        self.norm_out = nn.LayerNorm(width)
        self.proj_to_clip_embeddings = nn.Linear(width, dim)
        # In the released weights, and never applied there: the target is CLIP's vector as it is.
        self.clip_mean = nn.Parameter(torch.zeros(1, dim), requires_grad=False)
        self.clip_std = nn.Parameter(torch.zeros(1, dim), requires_grad=False)
        self.register_buffer("causal_mask", torch.full((length, length), HIDDEN).triu(1), persistent=False)

    def forward(
        self,
        states: Float[Tensor, "sample token dim"],
        mask: Bool[Tensor, "sample token"],
        vectors: Float[Tensor, "sample 3 dim"],
    ) -> Float[Tensor, "sample dim"]:
        """The picture's vector.

        Args:
            states: Of the text, with subjects in it; what fills up may be anything.
            mask: Which are text.
            vectors: Control, pooled text and noise.
        """
        control, pooled, noise = vectors.unbind(1)
        auxiliary = (self.embedding_control(control), self.embedding_proj(pooled), self.proj_in(noise))
        query = self.prd_embedding.expand(len(states), -1, -1)
        hidden = torch.cat([self.encoder_hidden_states_proj(states), torch.stack(auxiliary, 1), query], 1)
        hidden = hidden + self.positional_embedding
        seen = self._seen(mask).to(hidden.dtype)
        for block in self.transformer_blocks:
            hidden = block(hidden, attention_mask=seen)
        vector: Tensor = self.proj_to_clip_embeddings(self.norm_out(hidden[:, -1]))
        return vector

    def _seen(self, mask: Bool[Tensor, "sample token"]) -> Float[Tensor, "row position position"]:
        """What is added to the scores, a row a sample and head."""
        padding = functional.pad((~mask).float() * HIDDEN, (0, AUXILIARY))
        causal: Tensor = self.get_buffer("causal_mask")
        return (padding[:, None] + causal).repeat_interleave(self.sizes.heads, 0)


def _block(sizes: PriorSizes) -> Any:
    ensure_torchvision()
    from diffusers.models.attention import BasicTransformerBlock

    return BasicTransformerBlock(sizes.width, sizes.heads, sizes.head_dim, activation_fn="gelu", attention_bias=True)
