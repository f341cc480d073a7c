"""What the demo trains: recipes of the world of shapes, cut down to pictures that a minute or two are enough for."""

from dataclasses import replace

from training.config import Recipe, Schedule
from training.families.lambda_eclipse import LambdaEclipseConfig
from training.families.unimo_g import UnimoGConfig
from training.modules.autoencoder import PixelSizes
from training.modules.kandinsky import KandinskySizes
from training.modules.unet import UnetSizes
from training.recipe_lambda_eclipse import lambda_eclipse_shapes
from training.recipe_unimo_g import unimo_g_shapes
from training.stream.buckets import Buckets

STEPS, SIDE = 400, 16
_PIXELS = PixelSizes(patch=1)


def unimo_g() -> Recipe:
    """UNIMO-G's recipe of shapes on pictures of 16 pixels, in small batches.

    Hardware: 2 CPU cores.
    Time: 1.5 minutes.
    Source: ours.
    """
    recipe = unimo_g_shapes()
    family = recipe.family
    assert isinstance(family, UnimoGConfig) and isinstance(family.unet, UnetSizes)
    unet = replace(family.unet, latent_channels=3)
    return _cut_down(replace(recipe, family=replace(family, unet=unet, autoencoder=_PIXELS, size=(SIDE, SIDE))))


def lambda_eclipse() -> Recipe:
    """λ-ECLIPSE's recipe of shapes on pictures of 16 pixels, in small batches.

    Hardware: 2 CPU cores.
    Time: 1.5 minutes.
    Source: ours.
    """
    recipe = lambda_eclipse_shapes()
    family = recipe.family
    assert isinstance(family, LambdaEclipseConfig) and isinstance(family.decoder.unet, KandinskySizes)
    unet = replace(family.decoder.unet, latent_channels=3)
    decoder = replace(family.decoder, unet=unet, movq=_PIXELS, size=(SIDE, SIDE))
    return _cut_down(replace(recipe, family=replace(family, decoder=decoder)))


def _cut_down(recipe: Recipe) -> Recipe:
    """More steps in the same time, and little of it spent on warming up."""
    return replace(
        recipe,
        name=f"{recipe.name}_demo",
        stream=replace(recipe.stream, buckets=Buckets(ratios=(1.0,), base=SIDE, multiple=SIDE)),
        batch_size=16,
        micro_batch=16,
        steps=STEPS,
        schedule=Schedule(kind="cosine", warmup=20),
        ema=0.98,
        save_every=STEPS,
        log_every=20,
        sample_every=None,
    )
