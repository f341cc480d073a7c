"""What the trainer, the sampler and the command line know of a model family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from manifests.prompt import Insertion
from training.noise import Noise
from training.stream.prompts.base import Prompt
from training.stream.tensors import BatchTensors

Feature: TypeAlias = "Tensor | tuple[Tensor | None, ...]"
"""One tensor, the samples its first axis; or one a sample, ``None`` where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What pictures are to be drawn from: prompts, with the pixels or features that they refer to.

    Attributes:
        prompts: One a picture.
        references: Of each prompt, the pixels of its references in order, uint8, (height, width, 3), sRGB; ``None``
            where features stand for them.
        features: By name, as in :class:`training.stream.collate.Batch`.
    """

    prompts: tuple[Prompt, ...]
    references: tuple[tuple[UInt8[Tensor, "height width 3"] | None, ...], ...]
    features: Mapping[str, Feature]

    def __len__(self) -> int:
        return len(self.prompts)


def conditions_of(tensors: BatchTensors) -> Conditions:
    """What a batch's targets are to be drawn from."""
    pixels: list[list[Tensor | None]] = [[None] * len(prompt.references) for prompt in tensors.batch.prompts]
    packed = tensors.batch.references
    for sample, number, picture in zip(packed.sample, packed.reference, tensors.references, strict=True):
        pixels[sample][number] = picture
    return Conditions(
        prompts=tensors.batch.prompts,
        references=tuple(tuple(row) for row in pixels),
        features=tensors.features,
    )


def reference_masks(tensors: BatchTensors) -> tuple[tuple[Bool[Tensor, "height width"] | None, ...], ...]:
    """Of each sample, where its target shows each reference of its prompt; ``None`` where that is not known."""
    masks: list[list[Tensor | None]] = [[None] * len(prompt.references) for prompt in tensors.batch.prompts]
    packed = tensors.batch.masks
    for sample, number, mask in zip(packed.sample, packed.reference, tensors.masks, strict=True):
        masks[sample][number] = mask
    return tuple(tuple(row) for row in masks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """A step's loss.

    Attributes:
        total: What is minimised: the weighted sum of the terms, each a mean over samples, so that equal parts of a
            global batch may be averaged.
        terms: By name, unweighted and detached.
    """

    total: Float[Tensor, ""]
    terms: Mapping[str, Float[Tensor, ""]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig:
    """How pictures are drawn. ``None`` is the family's own choice.

    Attributes:
        steps: Of the sampler, from 1 to the scheduler's training steps.
        guidance_scale: 1: no guidance.
        image_guidance_scale: Of the pictures in the prompt apart from its text; ``None``: both are guided as one.
        size: Width and height, pixels.
        seed: Of the noise; picture ``n`` of a call has noise of its own that depends on nothing but this and ``n``.
        cuts: Prompts that are longer than the family reads are cut, as in training; else they are refused.
    """

    steps: int | None = None
    guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    size: tuple[int, int] | None = None
    seed: int = 0
    cuts: bool | None = None


@runtime_checkable
class Family(Protocol):
    """A model family: how it reads a prompt, what it learns, how it draws.

    It is also an ``nn.Module``, all of whose parts are submodules, frozen encoders too: the names of its parameters are
    what recipes' globs and checkpoints speak of.
    """

    insertion: Insertion
    """How an image enters its prompts."""

    def forward(self, tensors: BatchTensors, noise: Noise) -> Losses:
        """The loss of samples; frozen parts run without gradients."""
        ...

    def sample(
        self, conditions: Conditions, config: SampleConfig, first: int = 0
    ) -> UInt8[Tensor, "picture height width 3"]:
        """The pictures of some prompts, sRGB; ``first`` is the number of the first, for its noise.

        Raises:
            ValueError: If a prompt or a setting is none it can draw from; the message says what to change.
        """
        ...

    def units(self) -> Sequence[nn.Module]:
        """Its repeated blocks, outer ones after those they hold: what is sharded, compiled and recomputed as one.

        Ranks gather a block's parameters together: ``forward`` must call each, whatever the samples hold. What some
        samples do without, such as what reads pictures, is no unit.
        """
        ...


@runtime_checkable
class Doubtful(Protocol):
    """A family that may be drawn with before it has learnt to."""

    def doubt(self) -> str | None:
        """What to tell of its weights before it draws; ``None``: nothing."""
        ...


class FamilyConfig(Protocol):
    """Sizes and choices of a family, in plain values; a frozen dataclass."""

    @property
    def sees_targets(self) -> bool:
        """Whether it learns from targets' pixels, and not from features alone."""
        ...

    @property
    def contrasts_samples(self) -> bool:
        """Whether its loss holds the samples of a batch against each other, so that parts of one can't be averaged."""
        ...

    def build(self, *, load: bool = True) -> nn.Module:
        """The family; its frozen parts with their weights if they are to be loaded, else as they are initialised.

        Raises:
            ValueError: If parts don't fit each other; the message names both sizes.
            OSError: If weights are not there; the message says where they were looked for and how to get them.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """What several runs have learnt, as one family.

    Attributes:
        config: Of that family.
        names: Of each run, what names of its parameters begin with and how these begin in that family; all others stay.
    """

    config: FamilyConfig
    names: tuple[Mapping[str, str], ...]


@runtime_checkable
class Composable(Protocol):
    """A configuration of a family whose runs can be put together without training."""

    def composed(self, others: Sequence[FamilyConfig], scales: Sequence[float]) -> Composition:
        """It and others as one; ``scales``: how much each is to say, its own first.

        Raises:
            ValueError: If they don't stand on the same; the message says what differs.
        """
        ...
