"""The recipe: how samples become what a family is trained on. Plain values, so that a change of it has a name."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TypeAlias

from manifests.record import canonical_json
from training.stream.buckets import Buckets
from training.stream.geometry import Crop
from training.stream.pixels import MAX_PIXELS
from training.stream.prompts.base import Builder
from training.stream.prompts.emma import Emma
from training.stream.prompts.lambda_eclipse import LambdaEclipse
from training.stream.prompts.mumu import Mumu
from training.stream.prompts.plain import Plain
from training.stream.prompts.unimo_g import UnimoG

PlainValue: TypeAlias = "str | float | bool | list[PlainValue] | dict[str, PlainValue] | None"
"""A JSON value."""


_TEXT = "caption_"
"""What names of features of texts begin with; all others are of pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecipe:
    """What is made of a sample.

    Attributes:
        builder: Makes the prompt.
        buckets: Sizes of the target.
        pixels: Whether to decode the target; else a batch's ``images`` have sides of 0. For what learns from features.
        crop: Where the target is cropped to its bucket.
        flip_rate: How often the target and all that shows it or a part of it is flipped, references too. 0: words such
            as "left" stay true. Not beside features of pictures, which were made of unflipped ones.
        masks: Whether to decode where the target shows what its prompt refers to.
        controls: Kinds of control images to decode beside the target, framed as it is; a sample may lack them.
        features: Names of features to read beside those that the prompt names.
        feature_model: The network that all of them must be of, ``name`` or ``name@revision`` as the engine recorded it;
            of several, each may be of any; ``None``: any at all. A sample with features of another is damaged.
        max_pixels: Pictures with more pixels are refused.
    """

    builder: Builder
    buckets: Buckets = field(default_factory=Buckets)
    pixels: bool = True
    crop: Crop = "random"
    flip_rate: float = 0.0
    masks: bool = False
    controls: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    feature_model: str | tuple[str, ...] | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        pictures = [name for name in self.features if not name.startswith(_TEXT)]
        if self.flip_rate > 0 and (pictures or self.builder.wants_picture_features):
            what = pictures or f"those that {type(self.builder).__name__} wants"
            raise ValueError(
                f"flip_rate is {self.flip_rate}, but features of pictures ({what}) are of unflipped ones; "
                "leave flip_rate at 0, or have pixels decoded instead of these features"
            )

    def image_size(self, bucket: int) -> tuple[int, int]:
        """Width and height of the targets of a bucket, as they come in batches."""
        return self.buckets.sizes[bucket] if self.pixels else (0, 0)

    def settings(self) -> dict[str, PlainValue]:
        """All values that decide what is made of a sample, by path: ``{"builder": "Mumu", "builder.side": 252, …}``."""
        return dict(_leaves("", self))

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the settings."""
        return hashlib.sha256(canonical_json(self.settings()).encode()).hexdigest()


def _leaves(path: str, value: object) -> list[tuple[str, PlainValue]]:
    """A dataclass as its name and its fields' leaves, anything else as itself."""
    if is_dataclass(value) and not isinstance(value, type):
        own: list[tuple[str, PlainValue]] = [(path, type(value).__name__)] if path else []
        parts = [(f"{path}.{part.name}" if path else part.name, getattr(value, part.name)) for part in fields(value)]
        return own + [leaf for name, part in parts for leaf in _leaves(name, part)]
    if isinstance(value, tuple):
        return [(path, [_scalar(path, part) for part in value])]
    return [(path, _scalar(path, value))]


def _scalar(path: str, value: object) -> PlainValue:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{path} of a recipe must be a plain value, got {value!r}")


def changes(before: Mapping[str, PlainValue], after: Mapping[str, PlainValue]) -> tuple[str, ...]:
    """What differs between the settings of two recipes: ``builder.side: 252 -> 504``."""
    names = sorted(before.keys() | after.keys())
    return tuple(
        f"{name}: {before.get(name)} -> {after.get(name)}" for name in names if before.get(name) != after.get(name)
    )


def plain(base: int = 512) -> StreamRecipe:
    """Text to image."""
    return StreamRecipe(builder=Plain(), buckets=Buckets(base=base))


def unimo_g(base: int = 512) -> StreamRecipe:
    """UNIMO-G: with masks, which its attention loss needs."""
    return StreamRecipe(builder=UnimoG(), buckets=Buckets(base=base), masks=True)


def lambda_eclipse(base: int = 224) -> StreamRecipe:
    """λ-ECLIPSE: one square bucket, as only CLIP sees the target, and all from features, the target too."""
    buckets = Buckets(ratios=(1.0,), base=base, multiple=14)
    return StreamRecipe(builder=LambdaEclipse(), buckets=buckets, pixels=False, crop="centre")


def mumu(base: int = 1024) -> StreamRecipe:
    """MUMU, stage 1: images of 324 tokens."""
    return StreamRecipe(builder=Mumu(), buckets=Buckets(base=base))


def emma_object(base: int = 512) -> StreamRecipe:
    """EMMA on objects, with their masks."""
    return _emma(Emma(condition="object"), base, masks=True)


def emma_style(base: int = 512) -> StreamRecipe:
    """EMMA on style: the whole picture."""
    return _emma(Emma(condition="style"), base)


def emma_face(base: int = 512) -> StreamRecipe:
    """EMMA on faces."""
    return _emma(Emma(condition="face", side=112), base)


def emma_region(base: int = 512) -> StreamRecipe:
    """EMMA on random regions of the same picture."""
    return _emma(Emma(condition="region"), base)


def _emma(builder: Emma, base: int, masks: bool = False) -> StreamRecipe:
    """One square bucket from the middle, as IP-Adapter, whose processing EMMA follows."""
    return StreamRecipe(builder=builder, buckets=Buckets(ratios=(1.0,), base=base), crop="centre", masks=masks)


STREAM_RECIPES: Mapping[str, Callable[..., StreamRecipe]] = {
    "plain": plain,
    "unimo_g": unimo_g,
    "lambda_eclipse": lambda_eclipse,
    "mumu": mumu,
    "emma_object": emma_object,
    "emma_style": emma_style,
    "emma_face": emma_face,
    "emma_region": emma_region,
}
"""Recipes by name; each takes the base size of its buckets, or has its own."""


def named_recipe(name: str, base: int | None = None) -> StreamRecipe:
    """The recipe of a name, with its own base size of buckets or another.

    Raises:
        ValueError: If there is none of that name, with those there are.
    """
    if name not in STREAM_RECIPES:
        raise ValueError(f"no recipe {name!r}; there are {', '.join(STREAM_RECIPES)}")
    return STREAM_RECIPES[name](base) if base else STREAM_RECIPES[name]()
