"""ELLA's connector: latents that read a text's states anew at every timestep, and are the U-Net's context.

Source: Hu et al. 2024, "ELLA: Equip Diffusion Models with LLM for Enhanced Semantic Alignment", section 3.1, and its
released code, whose parameters have these names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from training.modules.released import load_released
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights

_MLP = 4
"""Times the width."""

_FILES = ("ella-sd1.5-tsc-t5xl.safetensors", "model.safetensors")
"""Of QQGYLab/ELLA on the hub, and of an export."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EllaSizes:
    """Sizes of the connector.

    Attributes:
        text_dim: Of the text's states.
        width: Of the latents: the U-Net's context.
        latents: How many there are.
        layers: Blocks.
        heads: Of attention.
        time_channels: Sines and cosines of the timestep.
    """

    text_dim: int
    width: int
    latents: int
    layers: int
    heads: int
    time_channels: int


PAPER_ELLA = EllaSizes(text_dim=2048, width=768, latents=64, layers=6, heads=8, time_channels=320)
"""ELLA's for Stable Diffusion 1.5 and Flan-T5-XL: 66,820,608 parameters, the paper's 66.82M."""


Between: TypeAlias = Callable[
    [int, Float[Tensor, "sample latent width"], Float[Tensor, "sample width"]], Float[Tensor, "sample latent width"]
]
"""Latents after the block of a number, and the timestep's embedding, to the latents that the next block is given."""


class AdaLayerNorm(nn.Module):
    """LayerNorm whose shift and scale follow the timestep; neither is there at first. Source: ELLA, table 5."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, states: Float[Tensor, "sample token width"], time: Float[Tensor, "sample width"]
    ) -> Float[Tensor, "sample token width"]:
        """The normalised states."""
        shift, scale = self.linear(functional.silu(time))[:, None].chunk(2, dim=-1)
        return self.norm(states) * (1 + scale) + shift


class SquaredRelu(nn.Module):
    """``relu(x) ** 2``. Source: So et al. 2021, "Primer"; ELLA's released code."""

    def forward(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Never below 0."""
        return functional.relu(values).square()


def feed_forward(width: int) -> nn.Sequential:
    """The block's MLP."""
    layers = nn.Sequential()
    layers.add_module("c_fc", nn.Linear(width, _MLP * width))
    layers.add_module("sq_relu", SquaredRelu())
    layers.add_module("c_proj", nn.Linear(_MLP * width, width))
    return layers


def read(
    attention: nn.MultiheadAttention,
    latents: Float[Tensor, "sample latent width"],
    states: Float[Tensor, "sample token width"],
) -> Float[Tensor, "sample latent width"]:
    """What normalised latents see of themselves and of normalised states, all of them: no padding is masked."""
    seen = torch.cat([latents, states], dim=1)
    found: Tensor = attention(latents, seen, seen, need_weights=False)[0]
    return found


class PerceiverBlock(nn.Module):
    """``L + attention(L, T, t)``, then ``L + ffn(L, t)``: EMMA's equations 1 and 2."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = feed_forward(width)
        self.ln_1 = AdaLayerNorm(width)
        self.ln_2 = AdaLayerNorm(width)
        self.ln_ff = AdaLayerNorm(width)

    def forward(
        self,
        states: Float[Tensor, "sample token width"],
        latents: Float[Tensor, "sample latent width"],
        time: Float[Tensor, "sample width"],
    ) -> Float[Tensor, "sample latent width"]:
        """The latents that have read the states."""
        latents = latents + read(self.attn, self.ln_1(latents, time), self.ln_2(states, time))
        return latents + self.mlp(self.ln_ff(latents, time))


class PerceiverResampler(nn.Module):
    """Learned latents that read a text through some blocks."""

    def __init__(self, sizes: EllaSizes) -> None:
        super().__init__()
        self.latents = nn.Parameter(sizes.width**-0.5 * torch.randn(sizes.latents, sizes.width))
        self.time_aware_linear = nn.Linear(sizes.width, sizes.width)
        self.proj_in = nn.Linear(sizes.text_dim, sizes.width)
        self.perceiver_blocks = nn.Sequential(*(PerceiverBlock(sizes.width, sizes.heads) for _ in range(sizes.layers)))

    def forward(
        self, text: Float[Tensor, "sample token text"], time: Float[Tensor, "sample width"], between: Between | None
    ) -> Float[Tensor, "sample latent width"]:
        """The latents after the last block, and after what is between."""
        states = self.proj_in(text)
        latents = self.latents + self.time_aware_linear(functional.silu(time))[:, None]
        for number, block in enumerate(self.perceiver_blocks):
            latents = block(states, latents, time)
            latents = latents if between is None else between(number, latents, time)
        return latents


class Ella(nn.Module):
    """The connector. It is asked at every timestep."""

    def __init__(self, sizes: EllaSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.position, self.time_embedding = _time(sizes)
        self.connector = PerceiverResampler(sizes)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """Its repeated blocks."""
        return tuple(self.connector.perceiver_blocks)

    def forward(
        self,
        text: Float[Tensor, "sample token text"],
        timesteps: Int[Tensor, "*sample"],
        between: Between | None = None,
    ) -> Float[Tensor, "sample latent width"]:
        """The context.

        Args:
            text: T5's states, those of what fills up among them, which are read like the others.
            timesteps: One a sample, or one for all.
            between: What is done after each block.
        """
        waves = self.position(timesteps.reshape(-1)).expand(len(text), -1)
        time: Tensor = self.time_embedding(waves.to(self.time_embedding.linear_1.weight.dtype))
        context: Tensor = self.connector(text, time, between)
        return context


def _time(sizes: EllaSizes) -> tuple[Any, Any]:
    """Waves of the timestep, and the MLP that embeds them."""
    ensure_torchvision()
    from diffusers.models.embeddings import TimestepEmbedding, Timesteps

    waves = Timesteps(sizes.time_channels, flip_sin_to_cos=True, downscale_freq_shift=0)
    return waves, TimestepEmbedding(in_channels=sizes.time_channels, time_embed_dim=sizes.width)


def load_ella(ella: Ella, weights: Weights) -> None:
    """Take the weights that ELLA's authors released, or those that an export of ours wrote.

    Raises:
        OSError: If the file is not there.
        ValueError: If its parameters are not the connector's.
    """
    load_released(ella, weights, _FILES, "connector")
