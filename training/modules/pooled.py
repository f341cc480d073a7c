"""A vector of a whole context, for denoisers that are told one beside it."""

from jaxtyping import Float
from torch import Tensor, nn

from training.modules.context import Context


class PooledMean(nn.Module):
    """A linear layer of the mean of the tokens that are there.

    Ours, for denoisers whose own text encoder, which gave such a vector, is taken away. It begins as zeros, as what is
    told nothing begins.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(in_dim, out_dim)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, context: Context) -> Float[Tensor, "sample vector"]:
        """The vector."""
        there = context.mask[:, :, None].to(context.tokens.dtype)
        return self.project((context.tokens * there).sum(1) / there.sum(1))
