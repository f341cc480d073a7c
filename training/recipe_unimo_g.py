"""Recipes of UNIMO-G."""

from training.config import Group, Recipe
from training.diffusion.schedule import NoiseSchedule
from training.encoders.blip2 import Blip2, Blip2Sizes
from training.encoders.qwen_vl import QwenVl, QwenVlSizes
from training.families.base import SampleConfig
from training.families.unimo_g import UnimoGConfig
from training.modules.attention_loss import AttentionLoss
from training.modules.autoencoder import KlSizes, PixelSizes
from training.modules.unet import UnetSizes
from training.stream.buckets import Buckets
from training.stream.prompts.unimo_g import UnimoG
from training.stream.recipe import StreamRecipe


def unimo_g_tiny() -> Recipe:
    """A model of under a million parameters on pixels, all of it trained: for tests and a first look.

    ``python -m training fit --recipe unimo_g_tiny --data DIR --out RUN``: a minute on one core. Ours.
    """
    side = 16
    family = UnimoGConfig(
        reader=QwenVl(
            source=QwenVlSizes(width=48, layers=2, heads=2, vision_width=32, vision_layers=2, patch=4), side=side
        ),
        unet=UnetSizes(
            channels=(32, 64), attends=(True, True), layers=1, heads=4, context_dim=48, latent_channels=3, groups=8
        ),
        autoencoder=PixelSizes(patch=1),
        size=(32, 32),
        attention=AttentionLoss(),
        steps=20,
    )
    return Recipe(
        name="unimo_g_tiny",
        family=family,
        stream=StreamRecipe(
            builder=UnimoG(side=side), buckets=Buckets(ratios=(1.0,), base=32, multiple=32), crop="centre", masks=True
        ),
        batch_size=8,
        micro_batch=8,
        steps=100,
        groups=(Group(names="*", mode="full", lr=1e-3),),
        precision="float32",
        ema=None,
        save_every=50,
        log_every=5,
        sample=SampleConfig(steps=20),
    )


UNIMO_G = (unimo_g_tiny,)
"""All of them."""

UNIMO_G_TYPES = (
    UnimoGConfig, QwenVl, QwenVlSizes, Blip2, Blip2Sizes, UnetSizes, KlSizes, PixelSizes, AttentionLoss, NoiseSchedule,
)  # fmt: skip
"""What their families are made of."""
