"""Families at their real sizes with fresh weights, and samples made up for them: nothing is downloaded."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from safetensors.numpy import save
from torch import nn

from manifests.record import Span
from training.config import Recipe
from training.encoders.clip import load_clip_tokenizer
from training.encoders.idefics2 import IDEFICS2_8B
from training.encoders.qwen_vl import QwenVl, QwenVlSizes
from training.encoders.t5 import T5Sizes
from training.families.emma import EmmaConfig
from training.families.lambda_eclipse import LambdaEclipse, LambdaEclipseConfig
from training.families.mumu import MumuConfig
from training.families.unimo_g import UnimoGConfig
from training.modules.autoencoder import SD_KL
from training.modules.unet import PAPER_UNET, SDXL_UNET, UnetSizes
from training.recipes import RECIPES
from training.stream.collate import Batch, Place, collate
from training.stream.example import Example, ExampleFeature, ExamplePart, ExampleSubject
from training.stream.keyed import Draws
from training.stream.prepare import Prepared, prepare
from training.stream.prompts.emma import Emma
from training.weights import Weights

QWEN_3B = QwenVlSizes(width=2048, layers=36, heads=16, vision_width=1280, vision_layers=32, patch=14)
QWEN_7B = QwenVlSizes(width=3584, layers=28, heads=16, vision_width=1280, vision_layers=32, patch=14)
"""Near Qwen2.5-VL's sizes: as many layers as wide, but 16 heads throughout, each with keys and values of its own, and a
vocabulary of bytes."""

SD15_UNET = UnetSizes(
    channels=(320, 640, 1280, 1280), attends=(True, True, True, False), layers=2, heads=8, context_dim=768,
    latent_channels=4,
)  # fmt: skip
"""Stable Diffusion 1.5's. Source: its published ``unet/config.json``."""

SDXL_KL = replace(SD_KL, scaling_factor=0.13025)
"""SDXL's. Source: its published ``vae/config.json``."""

T5_XL = T5Sizes(width=2048, layers=24, heads=32)
"""Near Flan-T5-XL's encoder, 1.2 billion parameters: with a vocabulary of bytes, and an MLP of two layers."""

_READERS = ("mllm", "t5")
"""Names of the parts that read prompts."""

_CAPTION, _NOUNS = "a dog by a ball in the sun", ("dog", "ball")
_DISTINCT = 16
"""Samples that are made up; a batch repeats them."""


def recipe_of(name: str, micro_batch: int | None) -> Recipe:
    """A recipe as one rank sees it: its batch is one part, and what it would load is fresh."""
    recipe = RECIPES[name]()
    most = micro_batch or recipe.micro_batch
    family = recipe.family
    if isinstance(family, UnimoGConfig) and name in _UNIMO_G:
        family = _UNIMO_G[name](family)
    if isinstance(family, MumuConfig) and isinstance(family.unet, Weights):
        family = _mumu(family)
    if isinstance(family, EmmaConfig) and isinstance(family.unet, Weights):
        family = _emma(family)
    stream = replace(recipe.stream, feature_model=None)
    return replace(recipe, family=family, stream=stream, batch_size=most, micro_batch=most, log_every=1)


def _sd15(family: UnimoGConfig) -> UnimoGConfig:
    return replace(family, reader=QwenVl(source=QWEN_3B), unet=SD15_UNET, autoencoder=SD_KL)


def _paper(family: UnimoGConfig) -> UnimoGConfig:
    return replace(family, reader=QwenVl(source=QWEN_7B), unet=PAPER_UNET, autoencoder=SD_KL)


def _mumu(family: MumuConfig) -> MumuConfig:
    reader = replace(family.reader, source=IDEFICS2_8B)
    return replace(family, reader=reader, unet=SDXL_UNET, autoencoder=SDXL_KL)


def _emma(family: EmmaConfig) -> EmmaConfig:
    """With a T5 where one reads: recipes of conditions have its features."""
    text = family.text if family.conditions else replace(family.text, source=T5_XL)
    return replace(family, text=text, ella_weights=None, unet=SD15_UNET, autoencoder=SD_KL)


_UNIMO_G: Mapping[str, Callable[[UnimoGConfig], UnimoGConfig]] = {
    "unimo_g_sd15": _sd15,
    "unimo_g_t2i_256": _paper,
    "unimo_g_300m_512": _paper,
    "unimo_g_instruct_512": _paper,
}


def fresh_family(recipe: Recipe, device: torch.device) -> nn.Module:
    """The family with weights as they are initialised; on a GPU its reader is kept in bfloat16, as published ones."""
    torch.manual_seed(recipe.seed)
    with device:
        family = recipe.family.build(load=False)
    if isinstance(family, LambdaEclipse):
        family.tokenizer = load_clip_tokenizer(Weights(name="stages/data/shapes_clip"))
    elif device.type == "cuda":
        for name, reader in family.named_children():
            for parameter in reader.parameters() if name in _READERS else ():
                parameter.data = parameter.data.bfloat16()
    return family


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes up batches of a recipe."""

    recipe: Recipe

    def batches(self, count: int) -> Sequence[Batch]:
        """So many, that differ in their samples' order."""
        stream = self.recipe.stream
        size = stream.buckets.sizes[len(stream.buckets.sizes) // 2]
        made = [self._sample(number, size) for number in range(_DISTINCT)]
        place = Place(epoch=0, step=0, ratio=size[0] / size[1], size=size)
        numbers = np.arange(self.recipe.micro_batch)
        return [collate([made[int(n)] for n in (numbers + turn) % _DISTINCT], place) for turn in range(count)]

    def _sample(self, number: int, size: tuple[int, int]) -> Prepared:
        example = _example(number, size, _feature_shapes(self.recipe))
        return prepare(example, self.recipe.stream, size, Draws(self.recipe.seed, 0, example.key))


def _feature_shapes(recipe: Recipe) -> Mapping[str, tuple[int, ...]]:
    family = recipe.family
    if isinstance(family, EmmaConfig) and isinstance(recipe.stream.builder, Emma):
        return _emma_shapes(family, recipe.stream.builder)
    if not isinstance(family, LambdaEclipseConfig):
        return {}
    tokenizer = load_clip_tokenizer(Weights(name="stages/data/shapes_clip"))
    vectors = ("image", "canny", *(f"subject{number}" for number in range(len(_NOUNS))))
    shapes: dict[str, tuple[int, ...]] = {f"{name}_{family.network}_vector": (family.prior.dim,) for name in vectors}
    shapes[f"caption_{family.network}_pooled"] = (family.prior.dim,)
    tokens = min(len(tokenizer(_CAPTION).input_ids), family.prior.text_tokens)
    return shapes | {f"caption_{family.network}_states": (tokens, family.prior.dim)}


def _emma_shapes(family: EmmaConfig, builder: Emma) -> Mapping[str, tuple[int, ...]]:
    (condition,) = family.conditions
    stem = f"{_EMMA_STEMS[builder.condition]}_{condition.network}"
    shapes: dict[str, tuple[int, ...]] = {f"{stem}_vector": (condition.vector_dim,)}
    if condition.local_dim is not None:
        shapes[f"{stem}_tokens"] = (condition.local_tokens, condition.local_dim)
    return shapes | {name: (family.text.length, family.ella.text_dim) for name in builder.text_features}


_EMMA_STEMS = {"object": "region0", "region": "region1", "face": "face0", "style": "image"}
"""What features begin with, by condition."""


def _example(number: int, size: tuple[int, int], features: Mapping[str, tuple[int, ...]]) -> Example:
    rng = np.random.default_rng(number)
    width, height = size
    members = {"jpg": _picture(rng, width, height), "canny.png": _picture(rng, width, height)}
    for subject in range(len(_NOUNS)):
        members[f"subject{subject}.crop.jpg"] = _picture(rng, 256, 256)
        members[f"subject{subject}.mask.png"] = _mask(subject, width, height)
    parts = {name: f"{name}.jpg" for name in ("region0", "region1", "face0")}
    members |= {member: _picture(rng, 256, 256) for member in parts.values()}
    given = {"caption": _CAPTION.encode(), "image": members["jpg"], "canny": members["canny.png"]}
    given |= {f"subject{subject}": members[f"subject{subject}.crop.jpg"] for subject in range(len(_NOUNS))}
    given |= {name: members[member] for name, member in parts.items()}
    abouts = {name: _about(given[name.partition("_")[0]]) for name in features}
    members |= {f"{name}.safetensors": _feature(rng, name, abouts[name], shape) for name, shape in features.items()}
    stored = [ExampleFeature(member=f"{name}.safetensors", name=name, **about) for name, about in abouts.items()]
    return Example(
        key=f"sample{number}",
        members=members,
        image="jpg",
        width=width,
        height=height,
        captions=(_CAPTION,),
        subjects=tuple(_subject(subject, noun, size) for subject, noun in enumerate(_NOUNS)),
        faces=(ExamplePart(kind="face", box=(0, 0, width, height), crop="face0.jpg", mask=None),),
        regions=tuple(
            ExamplePart(kind=kind, box=(0, 0, width, height), crop=f"region{n}.jpg", mask=None)
            for n, kind in enumerate(("object", "random"))
        ),
        controls={"canny": "canny.png"},
        features=tuple(stored),
    )


def _subject(number: int, noun: str, size: tuple[int, int]) -> ExampleSubject:
    width, height = size
    span = Span(start=_CAPTION.index(noun), end=_CAPTION.index(noun) + len(noun))
    return ExampleSubject(
        phrase=noun,
        span=span,
        head=noun,
        head_span=span,
        is_plural=False,
        box=(number * width / 2, height / 4, (number + 1) * width / 2, 3 * height / 4),
        crop=f"subject{number}.crop.jpg",
        mask=f"subject{number}.mask.png",
        head_box=None,
        head_crop=None,
    )


def _about(given: bytes) -> dict[str, str]:
    return {"content": hashlib.sha256(given).hexdigest(), "model": "made-up", "revision": "0"}


def _feature(rng: np.random.Generator, name: str, about: Mapping[str, str], shape: tuple[int, ...]) -> bytes:
    values = rng.standard_normal(shape, np.float32).astype(np.float16)
    return save({name: values}, metadata={"feature": json.dumps(about)})


def _picture(rng: np.random.Generator, width: int, height: int) -> bytes:
    coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
    return _encoded(".jpg", cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def _mask(subject: int, width: int, height: int) -> bytes:
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : 3 * height // 4, subject * width // 2 : (subject + 1) * width // 2] = 255
    return _encoded(".png", mask)


def _encoded(suffix: str, pixels: "np.typing.NDArray[np.uint8]") -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()
