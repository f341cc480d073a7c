"""Where a U-Net looks at for each reference of its prompt: cross-attention maps, taken beside its own fused attention.

The map of an entity is a sum of columns of softmax(Q K^T), which is attention with the values replaced by the 0/1
membership of tokens in entities. So the fused kernel gives it, exactly and with gradients, and the probabilities of all
places and tokens are never stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

Aggregate: TypeAlias = Literal["sum", "mean", "per_token"]
"""How an entity's tokens make maps: one of their sum or of their mean, or one of each."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Which tokens make which maps.

    Attributes:
        columns: Weights of tokens in maps.
        owner: The entity that each map is of, counted from 1; 0: of none, the map is nothing.
    """

    columns: Float[Tensor, "sample token map"]
    owner: Int[Tensor, "sample map"]


def membership(entity: Int[Tensor, "sample token"], num_entities: int, aggregate: Aggregate) -> Membership:
    """The membership of tokens in entities, from each token's entity: 0 text, k the k-th reference."""
    if aggregate == "per_token":
        return _each_token(entity)
    numbers = torch.arange(1, num_entities + 1, device=entity.device)
    columns = (entity[:, :, None] == numbers).float()
    count = columns.sum(1)
    owner = numbers * (count > 0)
    return Membership(columns / count.clamp(min=1)[:, None] if aggregate == "mean" else columns, owner)


def _each_token(entity: Int[Tensor, "sample token"]) -> Membership:
    """A map a visual token, filled up to the most of any sample."""
    is_visual = entity > 0
    place = is_visual.cumsum(1) - 1
    most = int(is_visual.sum(1).max())
    columns = functional.one_hot(place.clamp(min=0), max(most, 1)) * is_visual[:, :, None]
    return Membership(columns.float(), torch.einsum("btm,bt->bm", columns, entity))


class AttnCapture:
    """Takes the maps of one pass through a U-Net.

    Open it around the forward pass, and close it before the backward one: activations that are computed again then
    compute their maps again, as their gradients need, but add no maps.

        with AttnCapture(membership(entity, 2, "sum"), (64, 64)) as capture:
            unet(…, cross_attention_kwargs={"capture": capture})
        capture.maps

    Attributes:
        maps: Of each layer taken, (sample, map, height, width), a mean over heads.
    """

    def __init__(self, membership: Membership, size: tuple[int, int], most_places: int = 2048) -> None:
        """Take maps of at most so many places.

        Args:
            membership: Which tokens make which maps.
            size: Height and width of the latents.
            most_places: Larger maps are left out: the default leaves out the outermost level of latents of 64 x 64 in
                all of their aspect buckets, and keeps that of 32 x 32.
        """
        self.maps: list[Float[Tensor, "sample map height width"]] = []
        self._membership, self._size, self._most = membership, size, most_places
        self._is_open = False

    @property
    def owner(self) -> Int[Tensor, "sample map"]:
        """The entity that each map is of, as in :class:`Membership`."""
        return self._membership.owner

    def __enter__(self) -> Self:
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False

    def take(
        self,
        query: Float[Tensor, "sample head place channel"],
        key: Float[Tensor, "sample head token channel"],
        mask: Float[Tensor, "sample 1 1 token"] | None,
    ) -> None:
        """The maps of a layer, if it is of a size that is taken."""
        places = query.shape[2]
        if places > self._most:
            return
        maps = entity_maps(query, key, mask, self._membership.columns)
        if self._is_open:
            self.maps.append(maps.unflatten(2, level_size(self._size, places)))


def entity_maps(
    query: Float[Tensor, "sample head place channel"],
    key: Float[Tensor, "sample head token channel"],
    mask: Float[Tensor, "sample 1 1 token"] | None,
    columns: Float[Tensor, "sample token map"],
) -> Float[Tensor, "sample map place"]:
    """Sums of softmax(Q K^T / sqrt(channel)) over tokens, weighted by columns; a mean over heads, float32."""
    width = query.shape[-1]
    # Fused kernels want values as wide as queries.
    padded = functional.pad(columns, (0, max(0, width - columns.shape[-1]))).to(query.dtype)
    values = padded[:, None].expand(-1, query.shape[1], -1, -1)
    summed = functional.scaled_dot_product_attention(query, key, values, attn_mask=mask)
    return summed[..., : columns.shape[-1]].float().mean(1).transpose(1, 2)


def level_size(size: tuple[int, int], places: int) -> tuple[int, int]:
    """Height and width of the level of a U-Net with so many places; every level halves, rounding up.

    Raises:
        ValueError: If there is no such level.
    """
    height, width = size
    while height * width > places:
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != places:
        raise ValueError(f"latents of {size[0]} x {size[1]} have no level of {places} places")
    return height, width


class CapturingProcessor:
    """Attention of U-Net blocks as diffusers' ``AttnProcessor2_0`` has it, that lets a capture see cross-attention."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "sample place channel"],
        encoder_hidden_states: Float[Tensor, "sample token context"] | None = None,
        attention_mask: Float[Tensor, "sample 1 token"] | None = None,
        capture: AttnCapture | None = None,
    ) -> Float[Tensor, "sample place channel"]:
        """The layer's output; self-attention is never captured."""
        context = _context(attn, hidden_states, encoder_hidden_states)
        query, key, value = (
            layer(states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for layer, states in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        )
        query, key = _normed(attn.norm_q, query), _normed(attn.norm_k, key)
        mask = None if attention_mask is None else attention_mask[:, None].to(query.dtype)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        if capture is not None and encoder_hidden_states is not None:
            capture.take(query, key, mask)
        project, dropout = attn.to_out
        output: Tensor = dropout(project(attended.transpose(1, 2).flatten(2))) / attn.rescale_output_factor
        return output


def _context(attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None) -> Tensor:
    if encoder_hidden_states is None:
        return hidden_states
    normed: Tensor = (
        attn.norm_encoder_hidden_states(encoder_hidden_states) if attn.norm_cross else encoder_hidden_states
    )
    return normed


def _normed(norm: nn.Module | None, states: Tensor) -> Tensor:
    return states if norm is None else norm(states)


def let_capture(unet: Any) -> None:
    """Give a U-Net of diffusers processors that understand ``capture``.

    Raises:
        ValueError: If its attention is of another kind than in Stable Diffusion's blocks.
    """
    strange = _strange_layers(unet)
    if strange:
        raise ValueError(f"attention maps can't be taken from {strange[0]}: only from plain cross-attention blocks")
    unet.set_attn_processor(CapturingProcessor())


def _strange_layers(unet: Any) -> Sequence[str]:
    layers = [(name, module) for name, module in unet.named_modules() if type(module).__name__ == "Attention"]
    return [
        name
        for name, attn in layers
        if attn.group_norm is not None
        or attn.spatial_norm is not None
        or attn.residual_connection
        or attn.added_kv_proj_dim is not None
    ]
