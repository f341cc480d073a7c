"""A control image beside a prompt, for families that learnt some."""

from typing import Protocol, runtime_checkable

from msgspec.structs import replace

from manifests.prompt import ImageSegment, InterleavedPrompt
from training.generate.compose import Look
from training.stream.prompts.base import Prompt, Reference


@runtime_checkable
class Controlled(Look, Protocol):
    """How a family is shown images, one of which may be a control of the whole picture."""

    @property
    def control(self) -> str | None:
        """Its kind, such as ``canny``; ``None``: the family was shown none."""


def controlled(prompt: Prompt, look: Look | None) -> Prompt:
    """The prompt with a control image before all others, as training has it: of the whole picture, with no margin.

    Raises:
        ValueError: If the family learnt none.
    """
    if not isinstance(look, Controlled) or look.control is None:
        raise ValueError("this run learnt no control image: leave --control out")
    kind = look.control
    reference = Reference(name=kind, role="control", member=kind)
    segments = (ImageSegment(kind, "", "side"), *prompt.interleaved.segments)
    return replace(prompt, interleaved=InterleavedPrompt(segments), references=(reference, *prompt.references))
