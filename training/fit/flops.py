"""Operations of a step, counted as it runs, and how much of the device's peak they are."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

PEAKS: Mapping[str, float] = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "A10G": 70e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "B200": 2250e12,
}
"""Dense bfloat16 operations a second, float32 sums, by a part of the device's name; the first that matches counts.

Source: NVIDIA's data sheets and, for RTX cards, architecture papers (Ada appendix A, Ampere GA102 appendix A), halved
where they are given with sparsity. A10G: AWS's figure.
"""


def peak_of(device_name: str) -> float | None:
    """A device's peak; ``None`` if it is not known."""
    return next((peak for part, peak in PEAKS.items() if part in device_name), None)


def peak(device: torch.device) -> float | None:
    """The peak of where this process computes; of a CPU none is known."""
    return peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


class FlopCounter(TorchDispatchMode):
    """Counts products of matrices, convolutions and attention, a multiplication with its addition as two.

    What a backward pass computes a second time, to save memory, is not counted: it is no progress. That is told by
    gradients being enabled, which they are in a backward pass only then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.is_backward = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let an operation run, and count it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        count = flop_registry.get(getattr(func, "_overloadpacket", func))
        if count is not None and not (self.is_backward and torch.is_grad_enabled()):
            self.total += count(*args, **kwargs, out_val=result)
        return result


@dataclass(slots=True)
class FlopMeter:
    """Operations of the steps of a rank, by what they were counted on: the size of pictures decides most of it.

    The first batch of each size is counted; others of that size are taken for as much work, though their prompts may
    have more or fewer references. Compiled parts run uncompiled while they are counted.
    """

    counted: dict[tuple[int, int], int] = field(default_factory=dict)
    counter: FlopCounter | None = None

    @contextmanager
    def part(self, size: tuple[int, int]) -> Iterator[None]:
        """Forward and backward pass of a part of a batch of this size."""
        if size in self.counted:
            yield
            return
        self.counter = FlopCounter()
        try:
            with torch.compiler.set_stance("force_eager"):
                yield
            self.counted[size] = self.counter.total
        finally:
            self.counter = None

    def forward(self) -> AbstractContextManager[object]:
        """The forward pass within a part."""
        return self._phase(is_backward=False)

    def backward(self) -> AbstractContextManager[object]:
        """The backward pass within a part."""
        return self._phase(is_backward=True)

    def _phase(self, is_backward: bool) -> AbstractContextManager[object]:
        if self.counter is None:
            return nullcontext()
        self.counter.is_backward = is_backward
        return self.counter
