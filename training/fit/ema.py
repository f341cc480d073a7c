"""Moving averages of what trains; each rank keeps those of its own shards."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """Exponential moving averages of parameters, float32.

    The decay rises as (1 + step) / (10 + step) to its full value, so that a young average forgets where it began.
    Source: as in ``tf.train.ExponentialMovingAverage``, argument ``num_updates``.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema is a decay in [0, 1), got {decay}; None keeps no average")
        self.decay = decay
        self.parameters = dict(parameters)
        self.averages: dict[str, Tensor] = {name: value.detach().clone() for name, value in parameters.items()}

    def update(self, step: int) -> None:
        """Take in the parameters after a step, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self._averages(), self._parameters(), step)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The parameters are their averages meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for parameter, average in zip(self._parameters(), self._averages(), strict=True):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)

    def _parameters(self) -> list[Tensor]:
        return [local(parameter.detach()) for parameter in self.parameters.values()]

    def _averages(self) -> list[Tensor]:
        return [local(average) for average in self.averages.values()]


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, on the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
