"""Recipes of UNIMO-G: the paper's phases one after another, one for a node of GPUs, and small ones for a CPU.

Phases go on from each other: ``--start-from`` takes the run of the one before. What the paper does not say of its
optimiser is ours throughout: AdamW's betas, 1,000 steps of warm-up, clipping at 1, bfloat16, EMA at 0.9999. Its own
language model is not public: Qwen2.5-VL of 7B stands for it, read through a connector.
"""

from dataclasses import replace

from training.config import Group, Recipe, Schedule
from training.diffusion.schedule import NoiseSchedule
from training.encoders.blip2 import Blip2, Blip2Sizes
from training.encoders.qwen_vl import QwenVl, QwenVlSizes
from training.families.base import SampleConfig
from training.families.unimo_g import UnimoGConfig
from training.modules.attention_loss import AttentionLoss
from training.modules.autoencoder import KlSizes, PixelSizes
from training.modules.unet import PAPER_UNET, UnetSizes
from training.stream.buckets import Buckets
from training.stream.prompts.plain import Plain
from training.stream.prompts.unimo_g import UnimoG
from training.stream.recipe import StreamRecipe, unimo_g
from training.weights import Weights


def unimo_g_t2i_256() -> Recipe:
    """Text to image at 256 px, from scratch, on CC3M.

    python -m training fit --recipe unimo_g_t2i_256 --data DIR --out RUN

    Squares from the middle: the paper speaks of aspect buckets for its refined data alone.

    Hardware: 256 A100 of 80 GB.
    Time: 300 A100-days; the paper's figure.
    Source: Li et al. 2024, "UNIMO-G", section 4.1 and appendix; version 2 for the cost.
    """
    family = UnimoGConfig(
        reader=QwenVl(source=Weights(name="Qwen/Qwen2.5-VL-7B-Instruct")),
        unet=PAPER_UNET,
        autoencoder=Weights(name="stabilityai/sd-vae-ft-mse"),
        size=(256, 256),
        attention=None,
    )
    return Recipe(
        name="unimo_g_t2i_256",
        family=family,
        stream=_squares(256),
        batch_size=10_240,
        micro_batch=40,
        steps=100_000,
        groups=_all_but_reader(5e-5),
        schedule=Schedule(warmup=1000),
        recompute=True,
    )


def unimo_g_300m_256() -> Recipe:
    """Text to image at 256 px on 300M pairs; goes on from unimo_g_t2i_256.

    python -m training fit --recipe unimo_g_300m_256 --start-from RUN --data DIR --out RUN2

    Hardware: 256 A100 of 80 GB.
    Time: 3000 A100-days, with unimo_g_300m_512; the paper's figure.
    Source: Li et al. 2024, "UNIMO-G", section 4.1 and appendix; version 2 for the cost.
    """
    return replace(unimo_g_t2i_256(), name="unimo_g_300m_256", steps=500_000)


def unimo_g_300m_512() -> Recipe:
    """Text to image at 512 px on 300M pairs; goes on from unimo_g_300m_256.

    python -m training fit --recipe unimo_g_300m_512 --start-from RUN --data DIR --out RUN2

    Hardware: 256 A100 of 80 GB.
    Time: 3000 A100-days, with unimo_g_300m_256; the paper's figure.
    Source: Li et al. 2024, "UNIMO-G", section 4.1 and appendix; version 2 for the cost.
    """
    base = unimo_g_300m_256()
    return replace(
        base,
        name="unimo_g_300m_512",
        family=replace(_family(base), size=(512, 512)),
        stream=_squares(512),
        batch_size=3_072,
        micro_batch=12,
        steps=200_000,
    )


def unimo_g_refined_512() -> Recipe:
    """Text to image at 512 px in five aspect buckets on 1M refined pairs; goes on from unimo_g_300m_512.

    python -m training fit --recipe unimo_g_refined_512 --start-from RUN --data DIR --out RUN2

    The paper gives 200,000 steps to both sizes; that each has half of them is ours.

    Hardware: 256 A100 of 80 GB.
    Time: 1000 A100-days, with unimo_g_refined_1024; the paper's figure.
    Source: Li et al. 2024, "UNIMO-G", section 4.1 and appendix; version 2 for the cost.
    """
    return replace(
        unimo_g_300m_512(),
        name="unimo_g_refined_512",
        stream=StreamRecipe(builder=Plain(), buckets=Buckets(base=512)),
        steps=100_000,
        groups=_all_but_reader(1e-5),
    )


def unimo_g_refined_1024() -> Recipe:
    """Text to image at 1024 px in five aspect buckets on 1M refined pairs; goes on from unimo_g_refined_512.

    python -m training fit --recipe unimo_g_refined_1024 --start-from RUN --data DIR --out RUN2

    Hardware: 256 A100 of 80 GB.
    Time: 1000 A100-days, with unimo_g_refined_512; the paper's figure.
    Source: Li et al. 2024, "UNIMO-G", section 4.1 and appendix; version 2 for the cost.
    """
    base = unimo_g_refined_512()
    return replace(
        base,
        name="unimo_g_refined_1024",
        family=replace(_family(base), size=(1024, 1024)),
        stream=StreamRecipe(builder=Plain(), buckets=Buckets(base=1024)),
        micro_batch=3,
    )


def unimo_g_instruct_512() -> Recipe:
    """Prompts of text and images at 512 px, attention drawn to masks; goes on from unimo_g_refined_1024.

    python -m training fit --recipe unimo_g_instruct_512 --start-from RUN --data DIR --out RUN2

    The paper gives 200,000 steps to both sizes; that each has half of them is ours.

    Hardware: 256 A100 of 80 GB.
    Time: 800 A100-days, with unimo_g_instruct_1024; the paper's figure.
    Source: Li et al. 2024, "UNIMO-G", sections 3.3 and 4.1, and appendix; version 2 for the cost.
    """
    base = unimo_g_refined_512()
    return replace(
        base,
        name="unimo_g_instruct_512",
        family=replace(_family(base), attention=AttentionLoss()),
        stream=unimo_g(512),
    )


def unimo_g_instruct_1024() -> Recipe:
    """Prompts of text and images at 1024 px, attention drawn to masks; goes on from unimo_g_instruct_512.

    python -m training fit --recipe unimo_g_instruct_1024 --start-from RUN --data DIR --out RUN2

    Hardware: 256 A100 of 80 GB.
    Time: 800 A100-days, with unimo_g_instruct_512; the paper's figure.
    Source: Li et al. 2024, "UNIMO-G", sections 3.3 and 4.1, and appendix; version 2 for the cost.
    """
    base = unimo_g_refined_1024()
    return replace(
        base,
        name="unimo_g_instruct_1024",
        family=replace(_family(base), attention=AttentionLoss()),
        stream=unimo_g(1024),
    )


def unimo_g_sd15() -> Recipe:
    """Stable Diffusion 1.5 learns to read prompts of text and images through Qwen2.5-VL of 3B.

    python -m training fit --recipe unimo_g_sd15 --data DIR --out RUN

    The connector starts anew and the U-Net's attention to text follows it, hence its faster rate. All of its choices
    are ours.

    Hardware: 8 H100 of 80 GB.
    Time: a day at most; from operations, at 40 % of the peak, not measured.
    Source: ours; losses and prompts as in Li et al. 2024, "UNIMO-G".
    """
    base = Weights(name="stable-diffusion-v1-5/stable-diffusion-v1-5")
    family = UnimoGConfig(
        reader=QwenVl(source=Weights(name="Qwen/Qwen2.5-VL-3B-Instruct")),
        unet=replace(base, subfolder="unet"),
        autoencoder=replace(base, subfolder="vae"),
        size=(512, 512),
        attention=AttentionLoss(),
    )
    return Recipe(
        name="unimo_g_sd15",
        family=family,
        stream=unimo_g(512),
        batch_size=256,
        micro_batch=16,
        steps=50_000,
        groups=(
            Group(names="connector.*", mode="full", lr=1e-4),
            Group(names="unet.*", mode="full", lr=1e-5),
        ),
        schedule=Schedule(warmup=1000),
        recompute=True,
        sample_every=1000,
    )


def unimo_g_shapes() -> Recipe:
    """Learns the world of shapes from nothing: hue and texture by references, shape, place and number by text.

    python -m training fit --recipe unimo_g_shapes --data build/shapes --out RUN

    For shards of manifests/shapes_references.yaml. 32 px, and the language model learns too, as there is none so small
    to take. All of its choices are ours: v and the balanced loss learn in fewer steps than eps and the plain one, as v
    weighs what is seen at high noise, and a map of nothing is no good answer for masks of a tenth of the picture.

    Hardware: one CPU core.
    Time: 15 minutes.
    Source: ours.
    """
    family = UnimoGConfig(
        reader=QwenVl(
            source=QwenVlSizes(
                width=64, layers=2, heads=4, vision_width=64, vision_layers=2, patch=8, words=_SHAPES_WORDS
            ),
            side=32,
        ),
        unet=UnetSizes(
            channels=(32, 64, 64),
            attends=(False, True, True),
            layers=1,
            heads=4,
            context_dim=64,
            latent_channels=12,
            groups=8,
        ),
        autoencoder=PixelSizes(patch=2),
        size=(32, 32),
        attention=AttentionLoss(weight=0.01, kind="balanced_l1"),
        schedule=NoiseSchedule(prediction="v_prediction"),
        guidance_scale=2.0,
    )
    return Recipe(
        name="unimo_g_shapes",
        family=family,
        stream=_one_square(32, UnimoG(side=32, replace_rate=1.0)),
        batch_size=32,
        micro_batch=32,
        steps=2000,
        groups=(Group(names="*", mode="full", lr=1e-3),),
        schedule=Schedule(kind="cosine", warmup=100),
        precision="float32",
        ema=0.995,
        save_every=500,
        sample=SampleConfig(steps=20),
    )


def unimo_g_shapes_128() -> Recipe:
    """The same world at 128 px, by a larger model.

    python -m training fit --recipe unimo_g_shapes_128 --data build/shapes --out RUN

    For shards of manifests/shapes_references.yaml. References are seen at 64 px, in 16 tokens each, so that textures
    can be told. All of its choices are ours.

    Hardware: 1 H100 or H200.
    Time: some minutes, by its FLOPs (6 TFLOP a step); not timed.
    Source: ours.
    """
    base = unimo_g_shapes()
    family = _family(base)
    sizes = QwenVlSizes(width=192, layers=3, heads=6, vision_width=192, vision_layers=3, patch=8, words=_SHAPES_WORDS)
    unet = UnetSizes(
        channels=(192, 320, 448),
        attends=(False, True, True),
        layers=2,
        heads=8,
        context_dim=192,
        latent_channels=48,
    )
    return replace(
        base,
        name="unimo_g_shapes_128",
        family=replace(
            family,
            reader=QwenVl(source=sizes, side=64),
            unet=unet,
            autoencoder=PixelSizes(patch=4),
            size=(128, 128),
        ),
        stream=_one_square(128, UnimoG(side=64, replace_rate=1.0)),
        batch_size=64,
        micro_batch=64,
        steps=2500,
        groups=(Group(names="*", mode="full", lr=4e-4),),
        schedule=Schedule(kind="cosine", warmup=200),
        precision="bfloat16",
        save_every=2500,
    )


def unimo_g_tiny() -> Recipe:
    """A model of a third of a million parameters on pixels, all of it trained: for tests and a first look.

    python -m training fit --recipe unimo_g_tiny --data DIR --out RUN

    Hardware: one CPU core.
    Time: a minute.
    Source: ours.
    """
    family = UnimoGConfig(
        reader=QwenVl(
            source=QwenVlSizes(width=32, layers=2, heads=2, vision_width=32, vision_layers=2, patch=4), side=16
        ),
        unet=UnetSizes(
            channels=(16, 32),
            attends=(True, True),
            layers=1,
            heads=2,
            context_dim=32,
            latent_channels=12,
            groups=4,
        ),
        autoencoder=PixelSizes(patch=2),
        size=(32, 32),
        attention=AttentionLoss(),
        steps=20,
    )
    return Recipe(
        name="unimo_g_tiny",
        family=family,
        stream=_one_square(32, UnimoG(side=16)),
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


_SHAPES_WORDS = (
    "a", "an", "and", "at", "in", "on", "the", "two", "three", "left", "right", "top", "bottom", "middle", "circle",
    "circles", "heart", "hearts", "ring", "rings", "square", "squares", "star", "stars", "triangle", "triangles",
)  # fmt: skip


def _family(recipe: Recipe) -> UnimoGConfig:
    if not isinstance(recipe.family, UnimoGConfig):
        raise TypeError(f"recipe {recipe.name} trains a {type(recipe.family).__name__}")
    return recipe.family


def _all_but_reader(lr: float) -> tuple[Group, ...]:
    """The U-Net, which alone trains in the paper, and the connector, which it has not."""
    return (Group(names="unet.*", mode="full", lr=lr), Group(names="connector.*", mode="full", lr=lr))


def _squares(side: int) -> StreamRecipe:
    return StreamRecipe(builder=Plain(), buckets=Buckets(ratios=(1.0,), base=side), crop="centre")


def _one_square(side: int, builder: UnimoG) -> StreamRecipe:
    """Whole pictures, small."""
    buckets = Buckets(ratios=(1.0,), base=side, multiple=side)
    return StreamRecipe(builder=builder, buckets=buckets, crop="centre", masks=True)


UNIMO_G = (
    unimo_g_t2i_256,
    unimo_g_300m_256,
    unimo_g_300m_512,
    unimo_g_refined_512,
    unimo_g_refined_1024,
    unimo_g_instruct_512,
    unimo_g_instruct_1024,
    unimo_g_sd15,
    unimo_g_shapes,
    unimo_g_shapes_128,
    unimo_g_tiny,
)
"""All of them, in the paper's order."""

UNIMO_G_TYPES = (
    UnimoGConfig, QwenVl, QwenVlSizes, Blip2, Blip2Sizes, UnetSizes, KlSizes, PixelSizes, AttentionLoss, NoiseSchedule,
)  # fmt: skip
"""What their families are made of."""
