"""λ-ECLIPSE: the words stay, and vectors of the subjects' images overwrite the states of their nouns."""

from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from training.stream.example import Example
from training.stream.geometry import Framing
from training.stream.keyed import Draws
from training.stream.prompts.base import Colour, Prompt, Reference, disjoint, subject_reference, usable_subjects, weave


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaEclipse:
    """Every subject by its head noun, and the edges of the target as a control.

    Source: Patel et al. 2024, "λ-ECLIPSE", section 3 and appendix, where a number says no other. Features are named
    as the engine's ``embed`` names them: ``OF_NETWORK_OUTPUT``.

    Attributes:
        max_subjects: Most subjects; 1 to 4 there. Of more, the first in reading order stay.
        control: Kind of the control image; ``None``: none is wanted.
        control_drop_rate: How often the control is left out.
        network: Middle of the features' names.
        is_cached: All is read from features, no pixels of references are decoded, as there. Otherwise the references
            are pixels.
        side: Of a reference's square, pixels, where it is decoded.
        fill: Around a reference that is not square. Ours.
        min_visible: Share of a subject that the target must show. Ours.
    """

    max_subjects: int = 4
    control: str | None = "canny"
    control_drop_rate: float = 0.01
    network: str = "bigg"
    is_cached: bool = True
    side: int | None = 224
    fill: Colour = (255, 255, 255)
    min_visible: float = 0.25

    @property
    def wants_picture_features(self) -> bool:
        """See :attr:`training.stream.prompts.base.Builder.wants_picture_features`."""
        return self.is_cached

    def build(self, example: Example, framing: Framing, draws: Draws) -> Prompt:
        """The prompt. Raises ``SampleError`` as :meth:`training.stream.prompts.base.Builder.build`.

        With features the target is what CLIP's own preprocessing shows, the middle square: frame it so.
        """
        usable = usable_subjects(example, framing, self.min_visible)
        nouns = {number: example.subjects[number].head_span for number in usable}
        chosen = disjoint(usable, nouns)[: self.max_subjects]
        subjects = [self._stored(subject_reference(example, number, framing), span=nouns[number]) for number in chosen]
        has_control = self.control is not None and self.control in example.controls
        is_dropped = has_control and draws.chance("control", self.control_drop_rate)
        controls = [self._control(example, self.control)] if self.control and has_control and not is_dropped else []
        references = (*controls, *subjects)
        return Prompt(
            interleaved=weave(example.caption, references, "feature"),
            caption=example.caption,
            references=references,
            features=self._of("caption", "states", "pooled") + self._of("image", "vector"),
            is_control_dropped=is_dropped,
        )

    def _control(self, example: Example, kind: str) -> Reference:
        return self._stored(Reference(name=kind, role="control", member=example.controls[kind]))

    def _stored(self, reference: Reference, **changes: Any) -> Reference:
        """As features or as pixels."""
        if self.is_cached:
            return replace(reference, member=None, features=self._of(reference.name, "vector"), **changes)
        return replace(reference, side=self.side, fill=self.fill, **changes)

    def _of(self, name: str, *outputs: str) -> tuple[str, ...]:
        return tuple(f"{name}_{self.network}_{output}" for output in outputs) if self.is_cached else ()
