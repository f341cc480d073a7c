"""MUMU's adapter: a transformer between the states of a multimodal language model and a denoiser's cross-attention.

Source: Berman and Peysakhovich 2024, "MUMU", on its architecture: 16 layers, none causal, on the last hidden states.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn

_WIDER = 4
"""A layer's inner width is so many times its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSizes:
    """Sizes of an adapter.

    The paper gives the number of layers alone. Ours: as wide as the cross-attention, heads of 64, norms before, GELU,
    four times wider within, and no places, which the states know already.

    Attributes:
        layers: Of the transformer.
        heads: Of each.
    """

    layers: int
    heads: int


MUMU_ADAPTER = AdapterSizes(layers=16, heads=32)
"""MUMU's: 814,127,104 parameters from 4096 to 2048, 805,736,448 of them in the layers and the last norm."""


class Adapter(nn.Module):
    """A linear layer to the width of the context, then a transformer in which every token sees every other.

    Raises:
        ValueError: If heads don't divide the width.
    """

    def __init__(self, sizes: AdapterSizes, in_dim: int, out_dim: int) -> None:
        super().__init__()
        if out_dim % sizes.heads:
            raise ValueError(f"the adapter's {sizes.heads} heads must divide the context's width, which is {out_dim}")
        self.project = nn.Linear(in_dim, out_dim)
        self.layers = nn.ModuleList(_layer(out_dim, sizes.heads) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(out_dim)

    def forward(
        self, states: Float[Tensor, "sample token state"], mask: Bool[Tensor, "sample token"]
    ) -> Float[Tensor, "sample token context"]:
        """The context.

        Args:
            states: Of the language model.
            mask: Which tokens are there; no other is looked at.
        """
        tokens = self.project(states.to(self.project.weight.dtype))
        for layer in self.layers:
            tokens = layer(tokens, src_key_padding_mask=~mask)
        return self.norm(tokens)


def _layer(width: int, heads: int) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        width, heads, _WIDER * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
