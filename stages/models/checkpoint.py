"""Checkpoint files of the packages that released a model (``.pth``, ``.pt``, safetensors). Code in one is refused."""

import pickle
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.base import ModelRef
from stages.models.weights import locate

_PYTHON_ERRORS = (AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError)
BROKEN = (*_PYTHON_ERRORS, pickle.UnpicklingError, struct.error, SafetensorError)
"""What torch and safetensors raise on broken files; found by mutating checkpoints."""

_FOUND = re.compile(r"(?:GLOBAL |Trying to call reduce for |Trying to load unsupported GLOBAL )([\w.]+)")
"""How torch names in its errors what it refuses to make."""


def load_checkpoint(
    model: nn.Module,
    ref: ModelRef,
    adapt: Callable[[Mapping[str, Any]], Mapping[str, Tensor]] = lambda state: state,
) -> None:
    """Fill a network with a checkpoint's weights; every weight must be there, and none too many.

    Args:
        model: The network.
        ref: The file.
        adapt: Makes of what the file holds the weights by the network's own names.

    Raises:
        ValueError: If it is not there, damaged, of another architecture, or a pickle of more than tensors.
    """
    what = type(model).__name__
    state = read_checkpoint(ref, what)
    with _told(ref, what):
        model.load_state_dict(adapt(state))


def read_checkpoint(ref: ModelRef, what: str) -> Mapping[str, Any]:
    """What a checkpoint file holds, on the CPU.

    Args:
        ref: The file.
        what: What it should be, for messages.

    Raises:
        ValueError: If it is not there, damaged, or a pickle of more than tensors.
    """
    file = Path(locate(ref))
    if not file.is_file():
        raise ValueError(f"no checkpoint at {file.absolute()}: set model to the checkpoint file itself")
    with _told(ref, what):
        state = _read(file)
        if not isinstance(state, Mapping):
            raise TypeError(f"it holds a {type(state).__name__}, not weights by name")
        return state


@contextmanager
def _told(ref: ModelRef, what: str) -> Iterator[None]:
    """Turn the many ways in which a checkpoint is broken into one."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise ValueError(f"cannot load checkpoint {ref.name} as {what}: {_refusal(str(error))}") from error
    except (AssertionError, EOFError, LookupError, struct.error) as error:  # their own words alone say nothing
        reason = f"it is damaged, or of another kind ({error!r:.200})"
        raise ValueError(f"cannot load checkpoint {ref.name} as {what}: {reason}") from error
    except BROKEN as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"cannot load checkpoint {ref.name} as {what}: {reason}") from error


def _refusal(told: str) -> str:
    """What torch found in a pickle, without its advice, which would let code run."""
    found = _FOUND.search(told)
    if not found:
        (cause, *_) = told.rpartition("error: ")[2].strip().splitlines() or [""]
        return f"it is damaged, or of another kind ({cause[:200]})"
    return (
        f"it holds {found[1]}, and only tensors are read, as all else could run code; if you trust it, save its "
        "weights alone, such as its state_dict, by safetensors or torch.save"
    )


def _read(file: Path) -> object:
    if file.suffix == ".safetensors":
        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)
