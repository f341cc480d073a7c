"""What the demo trains: recipes of the world of shapes, cut down to a minute or two."""

from dataclasses import replace

from training.config import Recipe, Schedule
from training.recipes import RECIPES

STEPS = 400


def unimo_g() -> Recipe:
    """UNIMO-G's recipe of shapes, in small batches.

    Hardware: 2 CPU cores.
    Time: 1.5 minutes.
    Source: ours.
    """
    return _shortened(RECIPES["unimo_g_shapes"]())


def lambda_eclipse() -> Recipe:
    """λ-ECLIPSE's recipe of shapes, in small batches.

    Hardware: 2 CPU cores.
    Time: 1.5 minutes.
    Source: ours.
    """
    return _shortened(RECIPES["lambda_eclipse_shapes"]())


def _shortened(recipe: Recipe) -> Recipe:
    """More steps in the same time, and little of it spent on warming up."""
    schedule = Schedule(kind="cosine", warmup=20)
    return replace(
        recipe,
        name=f"{recipe.name}_demo",
        batch_size=16,
        micro_batch=16,
        steps=STEPS,
        schedule=schedule,
        ema=0.98,
        save_every=STEPS,
        log_every=20,
        sample_every=None,
    )
