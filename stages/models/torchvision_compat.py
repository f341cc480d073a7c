"""Make ``import torchvision`` work where its compiled part cannot load: PyPI's CUDA wheel beside a CPU-only torch."""

import importlib
import sys

from torch.library import Library

_OPS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[Library] = []
"""Kept alive: the operators are unregistered with the object."""


def ensure_torchvision() -> None:
    """Import torchvision; where it fails for want of its compiled operators, declare them and import it again.

    Must run before transformers is imported, most of which fails beside a broken torchvision. Does nothing more where
    the import works. The declared operators still raise when called.

    Raises:
        ImportError: If torchvision is not installed.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _libraries:
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for op in ("nms", "qnms"):
            library.define(op + _OPS)  # type: ignore[no-untyped-call]
        _libraries.append(library)
        importlib.import_module("torchvision")
