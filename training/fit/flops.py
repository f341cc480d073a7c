"""How well a device is used: its FLOPs in a step against those it could do, and its memory."""

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

_PEAKS: Mapping[str, float] = {
    "H200": 989e12,  # NVIDIA H200 data sheet, SXM, without sparsity
    "H100 PCIe": 756e12,  # NVIDIA H100 data sheet, likewise below
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,  # NVIDIA A100 data sheet
    "L40S": 362e12,  # NVIDIA L40S data sheet
    "L4": 121e12,  # NVIDIA L4 data sheet
    "A10": 125e12,  # NVIDIA A10 data sheet
}
"""Dense bfloat16 FLOPs a second by a part of the device's name; the first that fits counts."""


def peak_flops(name: str) -> float | None:
    """Dense bfloat16 FLOPs a second of a device of this name; ``None`` if it isn't in the table."""
    words = name.replace("-", " ").split()
    return next((peak for known, peak in _PEAKS.items() if set(known.split()) <= set(words)), None)


class Meter:
    """What a rank's device does; FLOPs are counted once, in the first step.

    What activations are computed again for counts too, so that with ``recompute`` the share is of the hardware, not of
    the model. Matrix products, convolutions and attention count.

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
        with FlopCounterMode(display=False) as counter:
            yield
        self.flops = counter.get_total_flops()

    def figures(self, step_s: float) -> dict[str, float]:
        """``memory_gib``, the most so far, and ``mfu``, the share of the FLOPs that could be done in a step's time."""
        memory = {"memory_gib": self._memory() / 2**30}
        return memory | ({"mfu": self.flops / step_s / self.peak} if self.peak and self.flops else {})

    def _memory(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kibibytes on Linux
