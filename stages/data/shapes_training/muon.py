"""Muon in the precision of the weights.

torch's own multiplies in bfloat16, which CPUs without instructions for it emulate: there it takes longer than all the
rest of a step.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from typing_extensions import override

_SERIES = (3.4445, -4.7750, 2.0315)
_TIMES = 5


class Muon(torch.optim.Optimizer):
    """Moves matrices along their momentum, all its directions made about as long as each other.

    A step is as long as AdamW's would be. The state has the form of torch's.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et al. 2025, "Muon is
    Scalable for LLM Training", section 2.2, for the length.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # overloaded
        """Take a step; what has no gradient stays."""
        loss = torch.enable_grad()(closure)() if closure else None
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._move(matrix, group["lr"], group["weight_decay"], group["momentum"])
        return loss

    def _move(self, matrix: Tensor, lr: float, weight_decay: float, keep: float) -> None:
        momentum = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
        momentum.lerp_(matrix.grad, 1 - keep)
        ahead = torch.lerp(matrix.grad, momentum, keep)  # type: ignore[arg-type]  # the gradient is there
        matrix.mul_(1 - lr * weight_decay).add_(level(ahead), alpha=-0.2 * lr * math.sqrt(max(matrix.shape)))


def level(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors, and singular values brought near 1, to 0.7 to 1.2 unless tiny.

    Args:
        matrix: (row, column).

    Source: Jordan et al. 2024: a Newton-Schulz iteration with its coefficients.
    """
    a, b, c = _SERIES
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_TIMES):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T
