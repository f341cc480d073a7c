"""The recipes: one function a run."""

from collections.abc import Callable, Mapping

from training.config import Recipe

RECIPES: Mapping[str, Callable[[], Recipe]] = {}
"""By the name that ``--recipe`` takes."""
