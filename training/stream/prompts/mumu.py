"""MUMU: images stand before the words for them, which stay."""

from dataclasses import dataclass
from typing import ClassVar

from msgspec.structs import replace

from training.stream.example import Example
from training.stream.geometry import Framing, frame_box
from training.stream.keyed import Draws
from training.stream.prompts.base import (
    Augmentation,
    Colour,
    Prompt,
    Reference,
    disjoint,
    draw_drop,
    is_shown,
    subject_reference,
    text_only,
    usable_subjects,
    weave,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """How conditioning images are augmented.

    Source: MUMU, section 3: 20 % of the images; crop, flip, noise and greyscale. How much of each is ours.

    Attributes:
        rate: Share of the images that are.
        min_crop: Least share of both sides that the crop keeps.
        flip_rate: How often it is flipped, if it is augmented.
        grey_rate: How often it loses its colour, if it is.
        min_noise: Least deviation of the noise, on [0, 1].
        max_noise: Most.
    """

    rate: float = 0.2
    min_crop: float = 0.8
    flip_rate: float = 0.5
    grey_rate: float = 0.5
    min_noise: float = 0.05
    max_noise: float = 0.1

    def draw(self, draws: Draws, name: str) -> Augmentation | None:
        """What is done to the image of this name, if anything."""
        if not draws.chance(f"augment {name}", self.rate):
            return None
        kept = draws.between(f"augment {name} crop", self.min_crop, 1)
        left, top = (draws.uniform(f"augment {name} {side}") * (1 - kept) for side in ("left", "top"))
        return Augmentation(
            crop=(left, top, left + kept, top + kept),
            is_flipped=draws.chance(f"augment {name} flip", self.flip_rate),
            is_grey=draws.chance(f"augment {name} grey", self.grey_rate),
            noise=draws.between(f"augment {name} noise", self.min_noise, self.max_noise),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mumu:
    """At most three crops before their words, people first, and at times a control image of the whole target.

    Source: Berman and Peysakhovich 2024, "MUMU", section 3, where a number says no other.

    Attributes:
        max_crops: Most crops in a prompt.
        head_rate: How often a person is shown by the head.
        control_rate: How often one of the example's control images is prepended, with its kind as its word. That it
            stands first is ours.
        augment: Of crops; a control has to lie on its target and stays as it is.
        drop_rate: How often the prompt is empty. Not given there; ours.
        images_drop_rate: How often the images alone are left out. Not given there; ours.
        variant_rate: How often a text-only prompt is one of all texts, not the caption. Ours.
        side: Of every image, pixels: 252 makes 324 tokens with patches of 14, 504 makes 1296.
        fill: Around an image that is not square.
        min_visible: Share of a subject, or of its head, that the target must show. Ours.
    """

    max_crops: int = 3
    head_rate: float = 0.7
    control_rate: float = 0.3
    augment: Augment = Augment()
    drop_rate: float = 0.1
    images_drop_rate: float = 0.05
    variant_rate: float = 0.0
    side: int | None = 252
    fill: Colour = (0, 0, 0)
    min_visible: float = 0.25
    wants_picture_features: ClassVar[bool] = False

    def build(self, example: Example, framing: Framing, draws: Draws) -> Prompt:
        """The prompt. Raises ``SampleError`` as :meth:`training.stream.prompts.base.Builder.build`."""
        chosen = self._choose(example, framing, draws)
        controls = self._controls(example, draws)
        drop = draw_drop(draws, self.drop_rate, 0, self.images_drop_rate)
        if drop.images or not (chosen or controls):
            prompt = text_only(example, draws, self.variant_rate, self.drop_rate)
            return replace(prompt, are_images_dropped=drop.images)
        references = (*controls, *(self._crop(example, number, framing, draws) for number in chosen))
        lead = f"{controls[0].name} " if controls else ""
        return Prompt(
            interleaved=weave(example.caption, references, "before", lead),
            caption=example.caption,
            references=references,
        )

    def _choose(self, example: Example, framing: Framing, draws: Draws) -> list[int]:
        """Numbers of the subjects to show, in reading order; of more than fit, people before the rest."""
        usable = usable_subjects(example, framing, self.min_visible)
        usable = disjoint(usable, {number: example.subjects[number].span for number in usable})
        if len(usable) <= self.max_crops:
            return usable
        shuffled = [usable[rank] for rank in draws.order("crops", len(usable))]
        shuffled.sort(key=lambda number: example.subjects[number].head_crop is None)
        return sorted(shuffled[: self.max_crops], key=usable.index)

    def _controls(self, example: Example, draws: Draws) -> tuple[Reference, ...]:
        if not example.controls or not draws.chance("control", self.control_rate):
            return ()
        kind = draws.choice("control kind", sorted(example.controls))
        member = example.controls[kind]
        return (Reference(name=kind, role="control", member=member, side=self.side, fill=self.fill),)

    def _crop(self, example: Example, number: int, framing: Framing, draws: Draws) -> Reference:
        """The crop of a subject, or its head where the target shows it."""
        reference = subject_reference(example, number, framing, self.side, self.fill)
        reference = replace(reference, augmentation=self.augment.draw(draws, reference.name))
        head, place = example.subjects[number].head_crop, example.subjects[number].head_box
        is_drawn = head is not None and draws.chance(f"head {number}", self.head_rate)
        if not (is_drawn and is_shown(place, framing, self.min_visible)):
            return reference
        box = frame_box(place, framing) if place else None
        return replace(reference, role="head", member=head, box=box, mask=None)
