"""The processes that train together, and where each computes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from training.stream.world import TorchGroup, World


def device_of_rank(name: str | None = None) -> torch.device:
    """Where this process computes: ``name``, else its GPU of this machine, else the CPU.

    ``cuda`` without a number is the process's own GPU: the one of its ``LOCAL_RANK``.

    Raises:
        ValueError: If ``name`` is none that is here.
    """
    if name is not None:
        return _named(name)
    return _indexed("cuda" if torch.cuda.is_available() else "cpu")


def _named(name: str) -> torch.device:
    try:
        device = _indexed(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        here = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ValueError(f"there is no device {name!r} that PyTorch can use here; there is {', '.join(here)}") from None
    return device


def _indexed(name: str) -> torch.device:
    device = torch.device(name)
    is_open = device.type == "cuda" and device.index is None
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if is_open else device


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """The world that torchrun or Ray Train set up, or one of this process alone; always with a process group.

    A group that was there before is left as it is; one made here is closed at the end.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    is_ours = not dist.is_initialized()
    if is_ours:
        _join(device)
    try:
        yield World(rank=dist.get_rank(), size=dist.get_world_size(), group=TorchGroup())
    finally:
        if is_ours:
            dist.destroy_process_group()


def backend_of(device_type: str) -> str:
    """What processes speak by that compute on devices of a type; from CPU to CPU it is gloo in any case."""
    return "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"


def _join(device: torch.device) -> None:
    backend = backend_of(device.type)
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group(backend)
    else:
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
