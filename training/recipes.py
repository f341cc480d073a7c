"""The recipes: one function a run."""

from collections.abc import Callable, Mapping

from training.config import Recipe
from training.recipe_unimo_g import unimo_g_tiny

RECIPES: Mapping[str, Callable[[], Recipe]] = {
    "unimo_g_tiny": unimo_g_tiny,
}
"""By the name that ``--recipe`` takes."""
