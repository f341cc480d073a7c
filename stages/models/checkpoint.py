"""Checkpoint files of the packages that released a model (``.pth``, ``.pt``, safetensors). Code in one is refused."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.base import ModelRef
from stages.models.weights import locate

_BROKEN = (pickle.UnpicklingError, EOFError, OSError, RuntimeError, TypeError, ValueError, KeyError, SafetensorError)


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
    file = Path(locate(ref))
    if not file.is_file():
        raise ValueError(f"no checkpoint at {file.absolute()}: set model to the checkpoint file itself")
    try:
        model.load_state_dict(adapt(_read(file)))
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"cannot load checkpoint {ref.name} as {type(model).__name__}: {reason}") from error


def _read(file: Path) -> Mapping[str, Any]:
    if file.suffix == ".safetensors":
        return load_file(file)
    state: Mapping[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state
