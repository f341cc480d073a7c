"""Make ``import torchvision`` work where its compiled part can't load, as PyPI's CUDA wheel beside a CPU-only torch."""

import importlib
import sys

from torch.library import Library

_MISSING = ("nms", "qnms")
_declared = Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
"""Empty on healthy installs; operators live as long as it."""


def ensure_torchvision() -> None:
    """Import torchvision; where that fails for want of compiled operators, declare those and import it again.

    Call it before transformers, diffusers or peft is imported: most of them fails beside a broken torchvision. The
    declared operators still raise when they are called.

    Raises:
        ImportError: If torchvision is not installed.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _declare()
        importlib.import_module("torchvision")


def _declare() -> None:
    for name in _MISSING:
        _declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
