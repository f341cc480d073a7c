"""How well a device is used: its FLOPs in a step against those it could do, and its memory."""

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_PEAKS: Mapping[str, float] = {
    "H200": 989e12,  # NVIDIA H200 data sheet, SXM, without sparsity
    "H100 PCIe": 756e12,  # NVIDIA H100 data sheet, likewise below
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,  # NVIDIA A100 data sheet
    "L40S": 362e12,  # NVIDIA L40S data sheet
    "L4": 121e12,  # NVIDIA L4 data sheet
    "A10": 125e12,  # NVIDIA A10 data sheet
    "B200": 2250e12,  # NVIDIA DGX B200 data sheet, an eighth, without sparsity
    "RTX 4090": 165e12,  # NVIDIA Ada GPU architecture paper, appendix A, float32 sums
    "RTX 3090": 71e12,  # NVIDIA Ampere GA102 GPU architecture paper, appendix A, likewise
}
"""Dense bfloat16 FLOPs a second by a part of the device's name; the first that fits counts."""


def peak_flops(name: str) -> float | None:
    """Dense bfloat16 FLOPs a second of a device of this name; ``None`` if it isn't in the table."""
    words = name.replace("-", " ").split()
    return next((peak for known, peak in _PEAKS.items() if set(known.split()) <= set(words)), None)


class FlopCounter(TorchDispatchMode):
    """Counts matrix products, convolutions and attention, a multiplication with its addition as two.

    What a backward pass computes again, because ``recompute`` did not keep it, is left out: it is no progress. It is
    told by gradients being enabled, as in a backward pass they are only then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let an operation run, and count it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        count = flop_registry.get(getattr(func, "_overloadpacket", func))
        if count is not None and not (_is_backward() and torch.is_grad_enabled()):
            self.total += count(*args, **kwargs, out_val=result)
        return result


def _is_backward() -> bool:
    return torch._C._current_graph_task_id() >= 0


class Meter:
    """What a rank's device does; FLOPs are counted once, in the first step, in which nothing is compiled.

    They are the model's: what is computed again to save memory is left out.

    Args:
        device: Of the rank.
        peak: Its FLOPs a second; ``None``: no share is told.
    """

    def __init__(self, device: torch.device, peak: float | None = None) -> None:
        self.device, self.peak, self.flops = device, peak, 0

    @classmethod
    def of(cls, device: torch.device) -> "Meter":
        """The meter of a device, with its peak if that is known."""
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        return cls(device, peak_flops(name))

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the FLOPs of the step inside, if that is not done yet and there is something to compare them with."""
        if self.peak is None or self.flops:
            yield
            return
        with torch.compiler.set_stance("force_eager"), FlopCounter() as counter:
            yield
        self.flops = counter.total

    def figures(self, step_s: float) -> dict[str, float]:
        """``memory_gib``, the most so far, and ``mfu``, the share of the FLOPs that could be done in a step's time."""
        memory = {"memory_gib": self._memory() / 2**30}
        return memory | ({"mfu": self.flops / step_s / self.peak} if self.peak and self.flops else {})

    def _memory(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kibibytes on Linux
