"""Recipes of EMMA and of ELLA, which it stands on.

``ella`` trains the connector; those of EMMA train a condition's blocks upon the one that its authors released. What the
papers do not say is ours throughout: bfloat16 where they have float16, no moving average.
"""

from dataclasses import replace

from training.config import Group, Recipe, Schedule
from training.encoders.t5 import T5, T5Sizes
from training.families.base import SampleConfig
from training.families.emma import EmmaConfig
from training.modules.agpr import EmmaCondition
from training.modules.autoencoder import PixelSizes
from training.modules.ella import PAPER_ELLA, EllaSizes
from training.modules.unet import UnetSizes
from training.stream import recipe as streams
from training.stream.buckets import Buckets
from training.stream.prompts.emma import Emma
from training.stream.prompts.plain import Plain
from training.stream.recipe import StreamRecipe
from training.weights import Weights

_SD15 = Weights(name="stable-diffusion-v1-5/stable-diffusion-v1-5")
_T5 = Weights(name="google/flan-t5-xl")
_CLIP_H = Weights(name="laion/CLIP-ViT-H-14-laion2B-s32B-b79K")
_SHAPES_CLIP_NAME = "shapes_clip"


def ella() -> Recipe:
    """Stable Diffusion 1.5 learns to read Flan-T5-XL: the connector alone trains.

    python -m training fit --recipe ella --data DIR --out RUN

    Recipes of EMMA take the weights that ELLA's authors released, or with --start-from those of this run. T5 reads
    live: the states of 34 million captions are 17 TB. The paper gives no batch size; 256 makes its 140,000 steps the
    epoch that it says they are. Squares from the middle, and a tenth of the texts dropped, are ours.

    Hardware: 8 A100 of 40 GB.
    Time: 7 days; the paper's figure.
    Source: Hu et al. 2024, "ELLA", section 4.1.
    """
    family = EmmaConfig(
        text=T5(source=_T5),
        ella=PAPER_ELLA,
        ella_weights=None,
        conditions=(),
        unet=replace(_SD15, subfolder="unet"),
        autoencoder=replace(_SD15, subfolder="vae"),
        size=(512, 512),
    )
    return Recipe(
        name="ella",
        family=family,
        stream=StreamRecipe(builder=Plain(), buckets=Buckets(ratios=(1.0,), base=512), crop="centre"),
        batch_size=256,
        micro_batch=16,
        steps=280_000,
        groups=(Group(names="ella.*", mode="full", lr=1e-4),),
        ema=None,
    )


def emma_object() -> Recipe:
    """The picture's main object beside the text: CLIP-H's global and local features of it.

    python -m training fit --recipe emma_object --data DIR --out RUN

    DIR is what manifests/emma_objects.yaml writes.

    Hardware: 8 A100 of 80 GB.
    Time: 200,000 steps; the paper does not say how long they take.
    Source: Han et al. 2024, "EMMA", sections 3 and 4.1.
    """
    condition = EmmaCondition(name="object", encoder=_CLIP_H)
    return _emma("emma_object", condition, _from_features(streams.emma_object(), "clip", ("vector", "tokens")))


def emma_style() -> Recipe:
    """A picture's style beside the text: CLIP-H's global feature of it, as four tokens.

    python -m training fit --recipe emma_style --data DIR --out RUN

    DIR is what manifests/emma_objects.yaml writes. The paper does not say for how many steps; as many as for objects
    are ours.

    Hardware: 8 A100 of 80 GB.
    Time: 200,000 steps; the paper does not say how long they take.
    Source: Han et al. 2024, "EMMA", sections 3 and 4.1.
    """
    condition = EmmaCondition(name="style", vector_tokens=4, local_dim=None, encoder=_CLIP_H)
    return _emma("emma_style", condition, _from_features(streams.emma_style(), "clip", ("vector",)))


def emma_face() -> Recipe:
    """A face beside the text: AdaFace's feature of it, as four tokens.

    python -m training fit --recipe emma_face --data DIR --out RUN

    DIR is what manifests/emma_portraits.yaml writes. Faces are read from features alone, in drawing too: the trainer
    has no network of AdaFace.

    Hardware: 8 A100 of 80 GB.
    Time: 200,000 steps; the paper does not say how long they take.
    Source: Han et al. 2024, "EMMA", sections 3 and 4.1.
    """
    condition = EmmaCondition(name="face", network="adaface", vector_dim=512, vector_tokens=4, local_dim=None)
    return _emma("emma_face", condition, _from_features(streams.emma_face(), "adaface", ("vector",)))


def emma_portrait() -> Recipe:
    """Portraits, by CLIP-H's global and local features of the face; goes on from emma_object, or from emma_region.

    python -m training fit --recipe emma_portrait --start-from RUN --data DIR --out RUN2

    DIR is what manifests/emma_portraits.yaml writes. That it sees the face's crop is ours.

    Hardware: 8 A100 of 80 GB.
    Time: 200,000 steps; the paper does not say how long they take.
    Source: Han et al. 2024, "EMMA", sections 3 and 4.1.
    """
    face = replace(Emma(condition="face"), side=224)
    stream = replace(streams.emma_face(), builder=face)
    return replace(emma_object(), name="emma_portrait", stream=_from_features(stream, "clip", ("vector", "tokens")))


def emma_region() -> Recipe:
    """Random regions of the picture itself beside the text: the first of two stages for characters.

    python -m training fit --recipe emma_region --data DIR --out RUN

    DIR is what manifests/emma_regions.yaml writes. emma_portrait goes on from it as the second stage, on pictures of
    the same people, so its condition is called object as well. Steps and batch are those for objects; ours.

    Hardware: 8 A100 of 80 GB.
    Time: 200,000 steps; not timed.
    Source: the blog of EMMA's authors; Han et al. 2024, "EMMA", section 4.1, for the optimiser.
    """
    stream = _from_features(streams.emma_region(), "clip", ("vector", "tokens"))
    return replace(emma_object(), name="emma_region", stream=stream)


def ella_tiny() -> Recipe:
    """A connector and a U-Net of a third of a million parameters on pixels: for tests and a first look.

    python -m training fit --recipe ella_tiny --data DIR --out RUN

    Hardware: 1 CPU core.
    Time: 1 minute.
    Source: ours.
    """
    family = EmmaConfig(
        text=T5(source=T5Sizes(width=32, layers=2, heads=2), length=128),
        ella=EllaSizes(text_dim=32, width=32, latents=8, layers=2, heads=2, time_channels=32),
        ella_weights=None,
        conditions=(),
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
        steps=20,
    )
    return Recipe(
        name="ella_tiny",
        family=family,
        stream=StreamRecipe(builder=Plain(), buckets=Buckets(ratios=(1.0,), base=32, multiple=32), crop="centre"),
        batch_size=8,
        micro_batch=8,
        steps=100,
        groups=(Group(names="ella.*", mode="full", lr=2e-3), Group(names="unet.*", mode="full", lr=2e-3)),
        precision="float32",
        ema=None,
        save_every=50,
        log_every=5,
        sample=SampleConfig(steps=10),
    )


def emma_tiny() -> Recipe:
    """A style beside the text for ella_tiny, by the bundled CLIP; goes on from it: for tests and a first look.

    python -m training fit --recipe emma_tiny --start-from RUN --data DIR --out RUN2

    DIR needs the features of manifests/shapes_references.yaml.

    Hardware: 1 CPU core.
    Time: 1 minute.
    Source: ours.
    """
    base = ella_tiny()
    condition = EmmaCondition(
        name="style",
        vector_dim=128,
        vector_tokens=4,
        local_dim=None,
        encoder=Weights(name=f"stages/data/{_SHAPES_CLIP_NAME}"),
        strength=0.01,
    )
    builder = Emma(condition="style", side=64, network="clip", outputs=("vector",), is_decoded=False)
    return replace(
        base,
        name="emma_tiny",
        family=replace(_family(base), conditions=(condition,)),
        stream=replace(base.stream, builder=builder, feature_model=_SHAPES_CLIP_NAME),
        groups=(Group(names="branches.*", mode="full", lr=2e-3),),
    )


def _emma(name: str, condition: EmmaCondition, stream: StreamRecipe) -> Recipe:
    """One condition upon the released connector. Source: EMMA, section 4.1."""
    base = ella()
    return replace(
        base,
        name=name,
        family=replace(_family(base), ella_weights=Weights(name="QQGYLab/ELLA"), conditions=(condition,)),
        stream=stream,
        steps=200_000,
        groups=(Group(names="branches.*", mode="full", lr=1e-4),),
        schedule=Schedule(warmup=1000, warmup_from=0.1),
    )


def _from_features(stream: StreamRecipe, network: str, outputs: tuple[str, ...]) -> StreamRecipe:
    """The stream with features in place of the condition's pixels and of the caption."""
    builder = stream.builder
    assert isinstance(builder, Emma), "these are EMMA's own"
    told = replace(builder, network=network, outputs=outputs, text_features=("caption_t5_states",), is_decoded=False)
    models = (_T5.name, _CLIP_H.name) if network == "clip" else None  # AdaFace's name is that of one's own file
    return replace(stream, builder=told, masks=False, feature_model=models)


def _family(recipe: Recipe) -> EmmaConfig:
    if not isinstance(recipe.family, EmmaConfig):
        raise TypeError(f"recipe {recipe.name} trains a {type(recipe.family).__name__}")
    return recipe.family


EMMA = (
    ella,
    emma_object,
    emma_style,
    emma_face,
    emma_portrait,
    emma_region,
    ella_tiny,
    emma_tiny,
)
"""All of them."""

EMMA_TYPES = (EmmaConfig, EmmaCondition, EllaSizes, T5, T5Sizes)
"""What their families are made of, besides what UNIMO-G's are."""
