"""Recipes of λ-ECLIPSE."""

from dataclasses import replace

from training.config import Group, Optimiser, Recipe, Schedule
from training.diffusion.schedule import NoiseSchedule
from training.families.base import SampleConfig
from training.families.lambda_eclipse import Decoder, LambdaEclipseConfig
from training.modules.autoencoder import PixelSizes
from training.modules.kandinsky import KandinskySizes, MovqSizes
from training.modules.prior import PAPER_PRIOR, PriorSizes
from training.modules.prior_loss import PriorLoss
from training.stream.buckets import Buckets
from training.stream.prompts.lambda_eclipse import LambdaEclipse
from training.stream.prompts.plain import Plain
from training.stream.recipe import StreamRecipe
from training.stream.recipe import lambda_eclipse as stream_recipe
from training.weights import Weights

_BIG_G = "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"
_KANDINSKY = "kandinsky-community/kandinsky-2-2-decoder"
_SHAPES_CLIP_NAME = "shapes_clip"
_SHAPES_CLIP = Weights(name=f"stages/data/{_SHAPES_CLIP_NAME}")
_PRIOR_GROUPS = (Group(names="prior.clip_*", mode="frozen"), Group(names="prior.*", mode="full", lr=5e-5))


def lambda_eclipse() -> Recipe:
    """The prior, from cached CLIP features alone.

    python -m training fit --recipe lambda_eclipse --data DIR --out RUN

    DIR needs the features of manifests/lambda_eclipse.yaml. The paper gives batch, peak rate and about 100,000 steps;
    decay, warm-up and the cosine are ours. Texts are contrasted with those of all ranks, but not with those of another
    part of an accumulated batch, so the batch is taken in one part on any number of ranks.

    Hardware: 2 A100.
    Time: 74 GPU-hours; the paper's figure.
    Source: Patel et al. 2024, "λ-ECLIPSE", sections 3.2 and 4.
    """
    family = LambdaEclipseConfig(
        prior=PAPER_PRIOR,
        prior_weights=None,
        clip=Weights(name=_BIG_G),
        network="bigg",
        decoder=Decoder(
            unet=Weights(name=_KANDINSKY, subfolder="unet"),
            movq=Weights(name=_KANDINSKY, subfolder="movq"),
            size=(512, 512),
        ),
        learns="prior",
    )
    return Recipe(
        name="lambda_eclipse",
        family=family,
        stream=replace(stream_recipe(), feature_model=_BIG_G),
        batch_size=1024,
        micro_batch=1024,
        steps=100_000,
        groups=_PRIOR_GROUPS,
        schedule=Schedule(kind="cosine", warmup=2000),
        ema=None,
    )


def lambda_eclipse_concept() -> Recipe:
    """Kandinsky's decoder, on the photos of one concept.

    python -m training fit --recipe lambda_eclipse_concept --data PHOTOS --out RUN

    PHOTOS is a WebDataset of plain pictures. The vector that a photo is drawn from is its own. To draw what a prior
    makes of prompts with this decoder, begin with the prior's run, ``--start-from PRIOR_RUN``; its prior stays in it.

    Hardware: 1 GPU of 40 GB.
    Time: some minutes a concept; ours.
    Source: Patel et al. 2024, "λ-ECLIPSE", section 3.3; steps, size and batch from its released code.
    """
    base = lambda_eclipse()
    family = base.family
    assert isinstance(family, LambdaEclipseConfig)
    return replace(
        base,
        name="lambda_eclipse_concept",
        family=replace(family, learns="decoder", decoder=replace(family.decoder, size=(768, 768))),
        stream=StreamRecipe(builder=Plain(), buckets=Buckets(ratios=(1.0,), base=768), crop="centre"),
        batch_size=4,
        micro_batch=1,
        steps=400,
        groups=(Group(names="unet.*", mode="full", lr=1e-5),),
        optimiser=Optimiser(weight_decay=0.0),
        schedule=Schedule(),
        recompute=True,
        save_every=400,
        prompts=base.stream.builder,
    )


def lambda_eclipse_concepts() -> Recipe:
    """Kandinsky's decoder, on the photos of thirty concepts together.

    python -m training fit --recipe lambda_eclipse_concepts --data PHOTOS --out RUN

    Hardware: 1 GPU of 40 GB.
    Time: some hours; ours.
    Source: Patel et al. 2024, "λ-ECLIPSE", section 3.3; 8000 steps from its released code.
    """
    return replace(lambda_eclipse_concept(), name="lambda_eclipse_concepts", steps=8000, save_every=1000)


def lambda_eclipse_tiny() -> Recipe:
    """Prior and decoder of under a million parameters with the bundled CLIP: for tests and a first look.

    python -m training fit --recipe lambda_eclipse_tiny --data DIR --out RUN

    DIR needs the features of manifests/shapes_references.yaml.

    Hardware: 1 CPU core.
    Time: 1 minute.
    Source: ours.
    """
    base = lambda_eclipse_shapes()
    family = base.family
    assert isinstance(family, LambdaEclipseConfig)
    decoder = Decoder(
        unet=KandinskySizes(
            channels=(16, 32), layers=1, head_dim=8, context_dim=8, vector_dim=128, latent_channels=4, groups=8
        ),
        movq=MovqSizes(channels=(32, 32), layers=1, latent_channels=4, entries=16),
        size=(32, 32),
        steps=10,
    )
    prior = PriorSizes(dim=128, text_tokens=32, heads=2, head_dim=16, layers=2)
    return replace(
        base,
        name="lambda_eclipse_tiny",
        family=replace(family, prior=prior, decoder=decoder),
        batch_size=8,
        micro_batch=8,
        steps=100,
        groups=(Group(names="prior.clip_*", mode="frozen"), *_both(2e-3)),
        schedule=Schedule(),
        ema=None,
        save_every=50,
        log_every=5,
    )


def lambda_eclipse_shapes() -> Recipe:
    """A small prior, and a small decoder of pixels, that learn a drawn world with the bundled CLIP.

    python -m training fit --recipe lambda_eclipse_shapes --data DIR --out RUN

    DIR is what manifests/shapes_references.yaml writes. Edges would tell what references are to tell, so no control is
    read. The decoder predicts v, which in pixels learns plain backdrops in fewer steps than eps does.
    ``python -m benchmarks.learning`` measures what comes of it.

    Hardware: 1 CPU core.
    Time: 10 minutes.
    Source: ours.
    """
    side = 32
    family = LambdaEclipseConfig(
        prior=PriorSizes(dim=128, text_tokens=32, heads=4, head_dim=32, layers=4),
        prior_weights=None,
        clip=_SHAPES_CLIP,
        network="clip",
        decoder=Decoder(
            unet=KandinskySizes(
                channels=(48, 64),
                layers=1,
                head_dim=16,
                context_dim=32,
                vector_dim=128,
                latent_channels=12,
                groups=8,
            ),
            movq=PixelSizes(patch=2),
            size=(side, side),
            schedule=NoiseSchedule(kind="linear", prediction="v_prediction"),
            steps=30,
            guidance_scale=2.0,
            drop_rate=0.1,
        ),
        learns="both",
        loss=PriorLoss(),
    )
    return Recipe(
        name="lambda_eclipse_shapes",
        family=family,
        stream=StreamRecipe(
            builder=LambdaEclipse(network="clip", control=None, side=64),
            buckets=Buckets(ratios=(1.0,), base=side, multiple=side),
            crop="centre",
            feature_model=_SHAPES_CLIP_NAME,
        ),
        batch_size=32,
        micro_batch=32,
        steps=1500,
        groups=(Group(names="prior.clip_*", mode="frozen"), *_both(1e-3)),
        schedule=Schedule(kind="cosine", warmup=100),
        precision="float32",
        ema=0.995,
        save_every=500,
        log_every=50,
        sample=SampleConfig(),
    )


def lambda_eclipse_shapes_128() -> Recipe:
    """The same world at 128 px, by a larger decoder.

    python -m training fit --recipe lambda_eclipse_shapes_128 --data DIR --out RUN

    DIR is what manifests/shapes_references.yaml writes.

    Hardware: 1 H100 or H200.
    Time: some minutes, by its FLOPs (5.5 TFLOP a step); not timed.
    Source: ours.
    """
    base = lambda_eclipse_shapes()
    family = base.family
    assert isinstance(family, LambdaEclipseConfig)
    decoder = replace(
        family.decoder,
        unet=KandinskySizes(
            channels=(192, 320, 448),
            layers=2,
            head_dim=32,
            context_dim=128,
            vector_dim=128,
            latent_channels=48,
        ),
        movq=PixelSizes(patch=4),
        size=(128, 128),
    )
    return replace(
        base,
        name="lambda_eclipse_shapes_128",
        family=replace(family, decoder=decoder),
        stream=replace(base.stream, buckets=Buckets(ratios=(1.0,), base=128, multiple=128)),
        batch_size=64,
        micro_batch=64,
        steps=2500,
        groups=(Group(names="prior.clip_*", mode="frozen"), *_both(4e-4)),
        schedule=Schedule(kind="cosine", warmup=200),
        precision="bfloat16",
        save_every=2500,
    )


def _both(lr: float) -> tuple[Group, ...]:
    return Group(names="prior.*", mode="full", lr=lr), Group(names="unet.*", mode="full", lr=lr)


LAMBDA_ECLIPSE = (
    lambda_eclipse,
    lambda_eclipse_concept,
    lambda_eclipse_concepts,
    lambda_eclipse_shapes,
    lambda_eclipse_shapes_128,
    lambda_eclipse_tiny,
)
"""All of them."""

LAMBDA_ECLIPSE_TYPES = (LambdaEclipseConfig, Decoder, KandinskySizes, MovqSizes, PriorSizes, PriorLoss)
"""What their families are made of, besides what UNIMO-G's are."""
