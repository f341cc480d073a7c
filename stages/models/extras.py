"""Packages that only some stages need, and which of Inlay's extras brings them."""

import importlib
from types import ModuleType


def needed(module: str, extra: str) -> ModuleType:
    """Import a package that need not be installed.

    Args:
        module: Its name in Python.
        extra: The extra in ``pyproject.toml`` that has it.

    Raises:
        ImportError: If it, or something it needs, is not installed, saying what to do.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"cannot import {module}: {error}; install it with `pip install 'inlay[{extra}]'`") from error
