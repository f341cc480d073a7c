"""EMMA: a condition beside the text, never in its sequence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from msgspec.structs import replace

from training.stream.example import Example, ExamplePart
from training.stream.geometry import Framing, frame_box
from training.stream.keyed import Draws
from training.stream.prompts.base import Colour, Prompt, Reference, Role, draw_drop, is_shown, text_only, weave

Condition: TypeAlias = Literal["object", "region", "face", "style"]
"""What the condition is: the picture's object with its mask, a random region, a face, or the whole picture."""

_KIND: Mapping[Condition, str] = {"object": "object", "region": "random", "face": "face"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Emma:
    """One condition stream; each is trained by itself.

    Source: Han et al. 2024, "EMMA", section 4, where a number says no other. The drops are IP-Adapter's, whose
    processing it follows (Ye et al. 2023, section 4.1).

    Attributes:
        condition: Which.
        image_drop_rate: How often the image alone is left out.
        text_drop_rate: How often the text alone.
        both_drop_rate: How often both.
        variant_rate: How often a prompt without image is one of all texts, not the caption. Ours.
        side: Of the condition's square, pixels; that of CLIP H/14; AdaFace takes 112.
        fill: Around an image that is not square. Ours.
        network: Middle of the names of the condition's features; ``None``: none are wanted.
        outputs: Ends of those names.
        text_features: Names of the caption's features.
        is_decoded: Whether the condition's pixels are wanted.
        min_visible: Share of an object, region or face that the target must show. Ours.
    """

    condition: Condition
    image_drop_rate: float = 0.05
    text_drop_rate: float = 0.05
    both_drop_rate: float = 0.05
    variant_rate: float = 0.0
    side: int | None = 224
    fill: Colour = (255, 255, 255)
    network: str | None = None
    outputs: tuple[str, ...] = ("vector", "tokens")
    text_features: tuple[str, ...] = ()
    is_decoded: bool = True
    min_visible: float = 0.25

    @property
    def wants_picture_features(self) -> bool:
        """See :attr:`training.stream.prompts.base.Builder.wants_picture_features`."""
        return self.network is not None

    def build(self, example: Example, framing: Framing, draws: Draws) -> Prompt:
        """The prompt; text alone where the example has no such condition."""
        condition = self._condition(example, framing, draws)
        drop = draw_drop(draws, self.both_drop_rate, self.text_drop_rate, self.image_drop_rate)
        references = (condition,) if condition and not drop.images else ()
        if not references and not drop.text:
            return self._text_only(example, draws, drop.images)
        return Prompt(
            interleaved=weave("" if drop.text else example.caption, references, "side"),
            caption=example.caption,
            references=references,
            features=() if drop.text else self.text_features,
            is_text_dropped=drop.text,
            are_images_dropped=drop.images,
        )

    def _text_only(self, example: Example, draws: Draws, are_images_dropped: bool) -> Prompt:
        """Without images; and without features where the text is not the caption, of which these are."""
        prompt = text_only(example, draws, self.variant_rate)
        features = self.text_features if prompt.caption == example.caption else ()
        return replace(prompt, are_images_dropped=are_images_dropped, features=features)

    def _condition(self, example: Example, framing: Framing, draws: Draws) -> Reference | None:
        """The condition's image; of several, one is drawn."""
        if self.condition == "style":
            return self._look(Reference(name="image", role="image", member=example.image))
        role: Role = "face" if self.condition == "face" else "region"
        parts = example.faces if role == "face" else example.regions
        usable = [number for number, part in enumerate(parts) if self._fits(part, framing)]
        if not usable:
            return None
        number = draws.choice("condition", usable)
        part = parts[number]
        box = frame_box(part.box, framing)
        return self._look(Reference(name=f"{role}{number}", role=role, member=part.crop, mask=part.mask, box=box))

    def _fits(self, part: ExamplePart, framing: Framing) -> bool:
        is_kind = part.kind == _KIND[self.condition] and part.crop is not None
        return is_kind and is_shown(part.box, framing, self.min_visible)

    def _look(self, reference: Reference) -> Reference:
        outputs = self.outputs if self.network else ()
        return replace(
            reference,
            member=reference.member if self.is_decoded else None,
            side=self.side,
            fill=self.fill,
            features=tuple(f"{reference.name}_{self.network}_{output}" for output in outputs),
        )
