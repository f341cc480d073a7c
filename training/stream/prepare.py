"""One sample made ready: its prompt, and the pixels that belong to it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from msgspec import Struct

from training.stream.augment import alter, crop
from training.stream.example import Example, SampleError
from training.stream.features import Values, read_features
from training.stream.geometry import (
    Bools,
    Framing,
    Pixels,
    fitted,
    frame,
    frame_mask,
    frame_pixels,
    mirror,
    pad,
    resize,
)
from training.stream.keyed import Draws
from training.stream.pixels import Header, decode, decode_mask, read_header
from training.stream.prompts.base import Prompt, Reference
from training.stream.recipe import StreamRecipe

_MOST_CUT = 64
"""How many times as large as its bucket a picture may be resized. The bucket's shape is near a picture's own."""


class Prepared(Struct, frozen=True, kw_only=True, gc=False):
    """A sample ready for its batch.

    Attributes:
        key: The sample's.
        framing: How the target was framed.
        image: The target, at the bucket's size; or without pixels, where the recipe wants none.
        prompt: What it is conditioned on.
        references: Pixels of the prompt's references, in its order; ``None`` where features stand for them.
        masks: Where ``image`` shows each reference, in the same order; ``None`` where that is not known or not wanted.
        controls: Control images by kind, framed as ``image`` is.
        features: By name.
    """

    key: str
    framing: Framing
    image: Pixels
    prompt: Prompt
    references: tuple[Pixels | None, ...]
    masks: tuple[Bools | None, ...]
    controls: Mapping[str, Pixels]
    features: Mapping[str, Values]


class Draft(Struct, frozen=True, kw_only=True, gc=False):
    """A sample whose prompt is built, before any of its pixels is decoded.

    Attributes:
        example: The sample.
        recipe: What to make of it.
        draws: Of the sample in its epoch.
        header: Of the stored target.
        framing: How the target is to be framed.
        prompt: What it is conditioned on.
    """

    example: Example
    recipe: StreamRecipe
    draws: Draws
    header: Header
    framing: Framing
    prompt: Prompt


def draft(example: Example, recipe: StreamRecipe, size: tuple[int, int], draws: Draws) -> Draft:
    """Build the prompt of a sample.

    Args:
        example: The sample.
        recipe: What to make of it.
        size: Width and height of its bucket.
        draws: Of the sample in this epoch; all that is random comes from here.

    Raises:
        SampleError: Its bytes are not what they should be.
    """
    header = _Sample(example, recipe).header(example.image)
    framing = frame((header.width, header.height), size, draws, recipe.crop, recipe.flip_rate)
    _check_shape(example.key, framing)
    prompt = recipe.builder.build(example, framing, draws)
    return Draft(example=example, recipe=recipe, draws=draws, header=header, framing=framing, prompt=prompt)


def _check_shape(key: str, framing: Framing) -> None:
    """Refuse a picture so thin that nearly all that it is resized to is cut off again: gigabytes for a line."""
    if framing.resized_width * framing.resized_height > _MOST_CUT * framing.width * framing.height:
        raise SampleError(
            "bomb",
            f"{key}: {framing.source_width} x {framing.source_height} pixels would have to be resized to "
            f"{framing.resized_width} x {framing.resized_height} to fill {framing.width} x {framing.height}",
        )


def finish(draft: Draft, out: Pixels | None = None) -> Prepared:
    """Decode what a draft takes.

    Args:
        draft: The sample's.
        out: Where to write the target; a new array if there is none.

    Raises:
        SampleError: Its bytes are not what they should be. ``out`` may hold anything then.
    """
    example, recipe, framing, prompt = draft.example, draft.recipe, draft.framing, draft.prompt
    sample = _Sample(example, recipe)
    image = sample.framed(example.image, framing, draft.header, out) if recipe.pixels else np.zeros((0, 0, 3), np.uint8)
    wanted = recipe.features + prompt.features + tuple(name for part in prompt.references for name in part.features)
    return Prepared(
        key=example.key,
        framing=framing,
        image=image,
        prompt=prompt,
        references=tuple(_reference(sample, part, framing, image, draft.draws) for part in prompt.references),
        masks=tuple(sample.mask(part.mask, framing) for part in prompt.references),
        controls={kind: sample.framed(example.controls[kind], framing) for kind in _controls(example, recipe)},
        features=read_features(example, tuple(dict.fromkeys(wanted)), recipe.feature_model),
    )


def prepare(
    example: Example, recipe: StreamRecipe, size: tuple[int, int], draws: Draws, out: Pixels | None = None
) -> Prepared:
    """:func:`draft` and :func:`finish` in one."""
    return finish(draft(example, recipe, size, draws), out)


@dataclass(frozen=True, slots=True)
class _Sample:
    """The pictures of a sample, as a recipe has them decoded."""

    example: Example
    recipe: StreamRecipe

    def header(self, member: str) -> Header:
        return read_header(self.example.members[member], self._name(member), self.recipe.max_pixels)

    def whole(self, member: str, header: Header, least: tuple[int, int] = (0, 0), out: Pixels | None = None) -> Pixels:
        return decode(self.example.members[member], header, self._name(member), least, out)

    def framed(self, member: str, framing: Framing, header: Header | None = None, out: Pixels | None = None) -> Pixels:
        least = framing.resized_width, framing.resized_height
        return frame_pixels(self.whole(member, header or self.header(member), least, out), framing, out)

    def fitted(self, member: str, side: int | None, share: float) -> Pixels:
        """At least so large that a crop of ``share`` of both sides fills a square of ``side``."""
        header = self.header(member)
        if side is None:
            return self.whole(member, header)
        return self.whole(member, header, fitted(header.width, header.height, math.ceil(side / share)))

    def mask(self, member: str | None, framing: Framing) -> Bools | None:
        if not (self.recipe.masks and member):
            return None
        return frame_mask(
            decode_mask(self.example.members[member], self._name(member), self.recipe.max_pixels), framing
        )

    def _name(self, member: str) -> str:
        return f"{self.example.key}.{member}"


def _controls(example: Example, recipe: StreamRecipe) -> list[str]:
    return [kind for kind in recipe.controls if kind in example.controls]


def _reference(sample: _Sample, reference: Reference, framing: Framing, image: Pixels, draws: Draws) -> Pixels | None:
    """A reference's pixels: of the target, framed as it, or by itself; ``None`` if features stand for it."""
    if reference.member is None:
        return None
    if reference.role == "image":
        return _shaped(image if image.size else sample.framed(sample.example.image, framing), reference, draws)
    if reference.role == "control":
        return _shaped(sample.framed(reference.member, framing), reference, draws)
    how = reference.augmentation
    share = min(how.crop[2] - how.crop[0], how.crop[3] - how.crop[1]) if how else 1.0
    pixels = sample.fitted(reference.member, reference.side, share)
    return _shaped(mirror(pixels) if framing.is_flipped else pixels, reference, draws)


def _shaped(pixels: Pixels, reference: Reference, draws: Draws) -> Pixels:
    """Augmented and squared, as the reference says."""
    how, side = reference.augmentation, reference.side
    pixels = crop(pixels, how.crop) if how else pixels
    if side is not None:
        pixels = resize(pixels, *fitted(pixels.shape[1], pixels.shape[0], side))
    pixels = alter(pixels, how, draws, reference.name) if how else pixels
    return pixels if side is None else pad(pixels, side, reference.fill)
