"""The connector: states of a language model to the width of a denoiser's cross-attention."""

from jaxtyping import Float
from torch import Tensor, nn


class Connector(nn.Module):
    """LayerNorm, then a linear layer.

    The paper feeds states straight into its U-Net, which is as wide as its language model. Ours, so that any pair fits;
    the norm takes away the few channels that are hundreds of times larger than others in large models.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_dim)
        self.project = nn.Linear(in_dim, out_dim)

    def forward(self, states: Float[Tensor, "sample token state"]) -> Float[Tensor, "sample token context"]:
        """The context."""
        return self.project(self.norm(states.to(self.norm.weight.dtype)))
