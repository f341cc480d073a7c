"""Recipes of MUMU: the paper's two stages, and a small one for a CPU.

The second stage goes on from the first: ``--start-from`` takes its run. Modes and learning rates are the paper's. What
it does not say is ours: AdamW's betas and decay, 1,000 steps of warm-up, clipping at 1, bfloat16, EMA at 0.9999, the
global batch, alpha and the layers of the low-rank updates.
"""

from dataclasses import replace

from training.config import Group, Lora, Recipe, Schedule
from training.encoders.idefics2 import Idefics2, Idefics2Sizes
from training.families.base import SampleConfig
from training.families.mumu import MumuConfig
from training.modules.adapter import MUMU_ADAPTER, AdapterSizes
from training.modules.autoencoder import PixelSizes
from training.modules.unet import AddedSizes, UnetSizes
from training.stream.buckets import Buckets
from training.stream.prompts.mumu import Mumu
from training.stream.recipe import StreamRecipe
from training.stream.recipe import mumu as mumu_stream
from training.weights import Weights

_PROJECTION = ("gate_proj", "up_proj", "down_proj")
_LANGUAGE = ("q_proj", "k_proj", "v_proj", "o_proj", *_PROJECTION)
_UNET = ("to_q", "to_k", "to_v", "to_out.0")


def mumu() -> Recipe:
    """Prompts of text and up to four images of 324 tokens at 1024 px; the first of two stages.

    python -m training fit --recipe mumu --data DIR --out RUN

    The paper gives 300,000 steps to both stages; that each has half of them is ours, as are 64 samples a step, and
    SDXL's autoencoder in the version that computes in 16 bits.

    Hardware: 8 H100 of 80 GB.
    Time: 6 days, with mumu_high; the paper's figure.
    Source: Berman and Peysakhovich 2024, "MUMU", on its training.
    """
    family = MumuConfig(
        reader=Idefics2(source=Weights(name="HuggingFaceM4/idefics2-8b")),
        adapter=MUMU_ADAPTER,
        unet=Weights(name="stabilityai/stable-diffusion-xl-base-1.0", subfolder="unet"),
        autoencoder=Weights(name="madebyollin/sdxl-vae-fp16-fix"),
        size=(1024, 1024),
    )
    return Recipe(
        name="mumu",
        family=family,
        stream=mumu_stream(1024),
        batch_size=64,
        micro_batch=8,
        steps=150_000,
        groups=(
            Group(names="mllm.network.model.vision_model.*", mode="frozen"),
            Group(names="mllm.network.model.connector.*", mode="lora", lr=3e-6, lora=_rank_8(_PROJECTION)),
            Group(names="mllm.network.model.text_model.*", mode="lora", lr=3e-6, lora=_rank_8(_LANGUAGE)),
            Group(names="adapter.*", mode="full", lr=1e-5),
            Group(names="unet.*", mode="lora", lr=5e-6, lora=_rank_8(_UNET)),
        ),
        schedule=Schedule(warmup=1000),
        recompute=True,
        sample_every=1000,
    )


def mumu_high() -> Recipe:
    """Prompts of text and one image of 1296 tokens, people's heads before all; goes on from mumu.

    python -m training fit --recipe mumu_high --start-from RUN --data DIR --out RUN2

    As many tokens as four images had. That no control image is shown is ours: there is room for one image alone.

    Hardware: 8 H100 of 80 GB.
    Time: 6 days, with mumu; the paper's figure.
    Source: Berman and Peysakhovich 2024, "MUMU", on its training.
    """
    base = mumu()
    family = _family(base)
    return replace(
        base,
        name="mumu_high",
        family=replace(family, reader=replace(family.reader, side=504)),
        stream=replace(base.stream, builder=Mumu(side=504, max_crops=1, control_rate=0.0)),
    )


def mumu_tiny() -> Recipe:
    """A model of 0.4 million parameters on pixels, all of it trained: for tests and a first look.

    python -m training fit --recipe mumu_tiny --data DIR --out RUN

    Hardware: one CPU core.
    Time: a minute.
    Source: ours.
    """
    family = MumuConfig(
        reader=Idefics2(
            source=Idefics2Sizes(
                width=32,
                layers=2,
                heads=2,
                key_heads=1,
                mlp_width=96,
                vision_width=32,
                vision_layers=2,
                vision_heads=2,
                vision_mlp_width=96,
                patch=8,
                most=16,
            ),
            side=16,
        ),
        adapter=AdapterSizes(layers=2, heads=2),
        unet=UnetSizes(
            channels=(16, 32),
            attends=(False, True),
            layers=1,
            heads=(1, 2),
            context_dim=32,
            latent_channels=12,
            groups=4,
            depth=(1, 2),
            is_linear=True,
            added=AddedSizes(pooled_dim=16, number_dim=8),
        ),
        autoencoder=PixelSizes(patch=2),
        size=(32, 32),
        steps=20,
    )
    return Recipe(
        name="mumu_tiny",
        family=family,
        stream=StreamRecipe(builder=Mumu(side=16), buckets=Buckets(ratios=(1.0,), base=32, multiple=32), crop="centre"),
        batch_size=8,
        micro_batch=8,
        steps=100,
        groups=(Group(names="*", mode="full", lr=2e-3),),
        precision="float32",
        ema=None,
        save_every=50,
        log_every=5,
        sample=SampleConfig(steps=10),
    )


def _rank_8(targets: tuple[str, ...]) -> Lora:
    """Rank 8 is the paper's; that updates are scaled by 1 is ours."""
    return Lora(rank=8, alpha=8.0, targets=targets)


def _family(recipe: Recipe) -> MumuConfig:
    if not isinstance(recipe.family, MumuConfig):
        raise TypeError(f"recipe {recipe.name} trains a {type(recipe.family).__name__}")
    return recipe.family


MUMU = (mumu, mumu_high, mumu_tiny)
"""All of them, in the paper's order."""

MUMU_TYPES = (MumuConfig, Idefics2, Idefics2Sizes, AdapterSizes, AddedSizes)
"""What their families are made of, beside what others are."""
