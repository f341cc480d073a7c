"""Batches as torch tensors: the one place of the stream that knows torch, and only when asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from training.stream.collate import Batch, Packed

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTensors:
    """The arrays of a batch on a device; what each holds, and its prompts, are in ``batch``.

    Attributes:
        batch: The batch itself.
        images: uint8, (sample, height, width, 3).
        references: A tensor a reference, uint8, (height, width, 3): views on one tensor, as in ``batch.references``.
        masks: A tensor a mask, bool, (height, width); likewise.
        controls: By kind; likewise.
        features: By name: a tensor, or where the batch has them packed one or ``None`` a sample, views on one tensor.
    """

    batch: Batch
    images: torch.Tensor
    references: tuple[torch.Tensor, ...]
    masks: tuple[torch.Tensor, ...]
    controls: Mapping[str, tuple[torch.Tensor, ...]]
    features: Mapping[str, torch.Tensor | tuple[torch.Tensor | None, ...]]


def to_tensors(batch: Batch, device: torch.device | str = "cpu") -> BatchTensors:
    """The batch on a device, one copy an array; asynchronous from pinned memory, no copy at all to the CPU."""
    return BatchTensors(
        batch=batch,
        images=_moved(batch.images, device),
        references=_unpacked(batch.references, device),
        masks=_unpacked(batch.masks, device),
        controls={kind: _unpacked(pack, device) for kind, pack in batch.controls.items()},
        features={
            name: _by_sample(value, len(batch), device) if isinstance(value, Packed) else _moved(value, device)
            for name, value in batch.features.items()
        },
    )


def _moved(array: npt.NDArray[Any], device: torch.device | str) -> torch.Tensor:
    import torch

    writable = array if array.flags.writeable else array.copy()
    return torch.from_numpy(writable).to(device, non_blocking=True)


def _unpacked(pack: Packed[Any], device: torch.device | str) -> tuple[torch.Tensor, ...]:
    buffer, offsets = _moved(pack.buffer, device), pack.offsets.tolist()
    parts = zip(offsets, offsets[1:], pack.shapes, strict=False)
    return tuple(buffer[start:end].reshape(shape) for start, end, shape in parts)


def _by_sample(pack: Packed[Any], count: int, device: torch.device | str) -> tuple[torch.Tensor | None, ...]:
    found = dict(zip(pack.sample.tolist(), _unpacked(pack, device), strict=True))
    return tuple(found.get(sample) for sample in range(count))


def allocate_pinned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array in pinned memory, which lives as long as the array.

    Raises:
        RuntimeError: If there is no accelerator to pin it for.
    """
    import torch

    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory: npt.NDArray[Any] = torch.empty(count, dtype=torch.uint8, pin_memory=True).numpy()
    return memory.view(dtype).reshape(shape)
