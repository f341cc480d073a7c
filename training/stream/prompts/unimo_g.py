"""UNIMO-G: images stand instead of the words for them."""

from dataclasses import dataclass
from typing import ClassVar

from training.stream.example import Example
from training.stream.geometry import Framing
from training.stream.keyed import Draws
from training.stream.prompts.base import Colour, Prompt, disjoint, subject_reference, text_only, usable_subjects, weave


@dataclass(frozen=True, slots=True, kw_only=True)
class UnimoG:
    """Subjects are replaced at random by their segments.

    Source: Li et al. 2024, "UNIMO-G", section 3 and appendix, where a number says no other.

    Attributes:
        replace_rate: How often a subject's words are replaced. Not given there; ours, to match its histogram of images
            a prompt.
        max_images: Most images in a prompt; ours. Which of more enter is drawn.
        text_only_rate: How often the pure caption stays.
        drop_rate: How often the prompt is empty. Not given there; ours.
        variant_rate: How often a text-only prompt is one of all texts, not the caption. Ours.
        side: Of an image in the prompt, pixels. Ours: 168 gives 36 tokens with patches of 28, near the paper's 32.
        fill: Around an image that is not square. Ours.
        min_visible: Share of a subject that the target must show. Ours.
    """

    replace_rate: float = 0.8
    max_images: int = 8
    text_only_rate: float = 0.1
    drop_rate: float = 0.1
    variant_rate: float = 0.0
    side: int | None = 168
    fill: Colour = (255, 255, 255)
    min_visible: float = 0.25
    wants_picture_features: ClassVar[bool] = False

    def build(self, example: Example, framing: Framing, draws: Draws) -> Prompt:
        """The prompt. Raises ``SampleError`` as :meth:`training.stream.prompts.base.Builder.build`."""
        chosen = self._choose(example, framing, draws)
        if not chosen or draws.chance("text_only", self.text_only_rate) or draws.uniform("drop") < self.drop_rate:
            return text_only(example, draws, self.variant_rate, self.drop_rate)
        references = tuple(subject_reference(example, number, framing, self.side, self.fill) for number in chosen)
        prompt = weave(example.caption, references, "replace")
        return Prompt(interleaved=prompt, caption=example.caption, references=references)

    def _choose(self, example: Example, framing: Framing, draws: Draws) -> list[int]:
        """Numbers of the subjects to replace, in reading order."""
        usable = usable_subjects(example, framing, self.min_visible)
        usable = disjoint(usable, {number: example.subjects[number].span for number in usable})
        drawn = [number for number in usable if draws.chance(f"replace {number}", self.replace_rate)]
        order = draws.order("most", len(drawn)) if len(drawn) > self.max_images else range(len(drawn))
        kept = set(order[: self.max_images])
        return [number for rank, number in enumerate(drawn) if rank in kept]
