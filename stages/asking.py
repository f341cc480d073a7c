"""Asking a model about records: the same answer for a record whatever its company."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from manifests.record import Picture
from stages.base import Context, Drop, Fail, record_rng
from stages.caption import clean
from stages.captioning import CaptioningParams
from stages.pixels import read_picture

if TYPE_CHECKING:
    from stages.models.captioner import Answer, Captioner

ALT_TEXT = "{alt_text}"
"""Stands in a prompt for the metadata's text."""


class Asked(Protocol):
    """What is read of a record to ask about it."""

    @property
    def key(self) -> str:
        """The record's key."""
        ...

    @property
    def image(self) -> Picture:
        """The picture asked about."""
        ...

    @property
    def alt_text(self) -> str | None:
        """What the prompt may tell of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Asks a captioner about records.

    Attributes:
        captioner: The model.
        params: What a manifest set.
        prompt: What is asked; ``{alt_text}`` in it gives way to the metadata's text, cleaned, or to nothing.
        seed: The run's.
        purpose: Of the random numbers.
    """

    captioner: "Captioner"
    params: CaptioningParams
    prompt: str
    seed: int
    purpose: str

    @classmethod
    def load(cls, params: CaptioningParams, prompt: str | None, context: Context, purpose: str) -> Self:
        """Load the model.

        Args:
            params: What a manifest set.
            prompt: What to ask; ``None``: the model's own prompt for a caption.
            context: Of the run.
            purpose: Of the random numbers.

        Raises:
            ValueError: If no model is set, it cannot be had, is no captioner, or knows no such prompt.
        """
        from stages.models.captioner import Settings
        from stages.models.captioners import load_captioner
        from stages.models.precision import dtype_of

        settings = Settings(
            max_new_tokens=params.max_new_tokens,
            num_beams=params.num_beams,
            temperature=params.temperature,
            top_p=params.top_p,
            images_per_call=params.images_per_call,
            image_side=params.image_side,
            precision=dtype_of(params.precision, context.device),
        )
        captioner = load_captioner(params.ref, context.device, settings)
        return cls(
            captioner=captioner, params=params, prompt=captioner.prompt(prompt), seed=context.seed, purpose=purpose
        )

    def __call__(self, batch: Sequence[Asked]) -> "list[Answer | Drop | Fail]":
        """An answer for each record, or why there is none, in order."""
        found: list[Answer | Drop | Fail | None] = [self._too_thin(record.image) for record in batch]
        fit = [place for place, drop in enumerate(found) if not drop]
        answers = self.captioner(
            [read_picture(batch[place].image) for place in fit],
            [self._question(batch[place].alt_text) for place in fit],
            [record_rng(self.seed, batch[place].key, self.purpose).getrandbits(63) for place in fit],
        )
        judged = map(_judge, answers)
        return [drop or next(judged) for drop in found]

    def _too_thin(self, image: Picture) -> Drop | None:
        aspect = max(image.width, image.height) / min(image.width, image.height)
        size = f"{image.width} x {image.height} pixels"
        return (
            Drop("too_thin", f"{size}; max_aspect is {self.params.max_aspect}")
            if aspect > self.params.max_aspect
            else None
        )

    def _question(self, alt_text: str | None) -> str:
        return self.prompt.replace(ALT_TEXT, clean(alt_text or "").text) if ALT_TEXT in self.prompt else self.prompt


def _judge(answer: "Answer") -> "Answer | Drop | Fail":
    match answer.end:
        case "nan":
            return Fail("not_a_number")
        case "no_room":
            return Drop("prompt_too_long")
        case _:
            return answer
