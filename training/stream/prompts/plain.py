"""Text alone: any image with text, and ours without their subjects."""

from dataclasses import dataclass
from typing import ClassVar

from training.stream.example import Example
from training.stream.geometry import Framing
from training.stream.keyed import Draws
from training.stream.prompts.base import Prompt, text_only


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """The caption and no image.

    Attributes:
        drop_rate: How often the prompt is empty. Source: classifier-free guidance, Ho and Salimans 2022, section 4.
        variant_rate: How often one of all the texts is taken, not the caption. Ours.
    """

    drop_rate: float = 0.1
    variant_rate: float = 0.0
    wants_picture_features: ClassVar[bool] = False

    def build(self, example: Example, framing: Framing, draws: Draws) -> Prompt:
        """The text-only prompt."""
        return text_only(example, draws, self.variant_rate, self.drop_rate)
