"""What stages that let a model write captions have in common: how it is asked, and which of its captions are fit."""

import re
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from stages.base import Drop, ModelRef
from stages.caption import LengthParams, clean
from stages.words import is_looping

_MAX_ASPECT = 200
"""Source: smart_resize of transformers' Qwen2-VL image processor, which refuses thinner pictures."""

_IMAGE = r"(?:the|this) (?:image|picture|photo|photograph)"
_SHOWS = r"(?:shows|showcases|depicts|features|displays|captures|contains|presents|portrays|illustrates|is of)"
_SEE = r"(?:there (?:is|are)|(?:we|you) (?:can )?see)"
_OPENING = re.compile(rf"(?:{_IMAGE} {_SHOWS}|in {_IMAGE},? {_SEE})\b[\s:,]*", re.IGNORECASE)

REASONS: Mapping[str, str] = {
    "too_thin": "One side of the picture is more than max_aspect times the other.",
    "prompt_too_long": "Picture and prompt, with the metadata's text in it, have no room in the model.",
    "not_a_number": "The model's scores are no numbers.",
    "empty_caption": "The model wrote nothing, or nothing but spaces and invisible characters.",
    "too_short": "The caption has fewer characters than min_chars.",
    "too_long": "The caption has more characters than max_chars.",
    "repetitive_caption": "The caption has the same words more than max_repeats times in a row.",
}
"""Why a record that a model is to write a caption for is dropped or fails."""


class CaptioningParams(LengthParams):
    """Which model is asked, how, and which of its captions are fit."""

    model: str | None = Field(
        None,
        description="Hub id or folder of a BLIP-2, Florence-2, LLaVA-NeXT, Qwen2.5-VL or Qwen3-VL, or a bundled model; "
        "must be set.",
    )
    revision: str | None = Field(None, description="Commit or tag of a hub id; needed with one.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Type of the model's weights; auto is bfloat16 on GPUs, float32 on CPUs."
    )
    max_new_tokens: int = Field(128, ge=1, le=4096, description="Tokens that the model writes at most.")
    num_beams: int = Field(1, ge=1, le=32, description="Beams of beam search; 1 takes the likeliest token each time.")
    temperature: float = Field(
        0.0, ge=0, le=10, description="Above 0 tokens are sampled, by random numbers of the record's own."
    )
    top_p: float = Field(1.0, gt=0, le=1, description="Sampling is among the likeliest tokens of so much probability.")
    images_per_call: int = Field(
        8,
        ge=1,
        le=1024,
        description="Pictures the model is asked about at once. Only those that take equally many tokens go together; "
        "calls with fewer are filled up, so that all are alike.",
    )
    image_side: int | None = Field(
        None,
        ge=224,
        le=4096,
        description="Pictures are fitted on a black square of so many pixels, so that all take equally many tokens "
        "and calls are full; null: each as the model's own preprocessing has it.",
    )
    max_aspect: float = Field(
        50.0, ge=1, le=_MAX_ASPECT, description="Pictures with a side more than so many times the other are dropped."
    )
    max_repeats: int = Field(
        3, ge=1, le=100, description="Captions with the same words more than so many times in a row are dropped."
    )
    strip_opening: bool = Field(
        True, description='Take off "The image shows", "In this picture, there is" and the like.'
    )

    @model_validator(mode="after")
    def _one_way_to_decode(self) -> Self:
        if self.temperature and self.num_beams > 1:
            raise ValueError(f"num_beams {self.num_beams} does not go with sampling: set it to 1, or temperature to 0")
        return self

    @property
    def ref(self) -> ModelRef:
        """The model that is asked."""
        return ModelRef(name=self.model, revision=self.revision)

    def fit(self, text: str) -> str | Drop:
        """What a model wrote as a clean caption, or why it is none."""
        caption = clean(text).text
        if self.strip_opening:
            caption = without_opening(caption)
        if not caption:
            return Drop("empty_caption")
        misfit = self.misfit(caption)
        if misfit:
            return misfit
        return Drop("repetitive_caption", caption[:80]) if is_looping(caption, self.max_repeats) else caption


def without_opening(caption: str) -> str:
    """The caption from what is shown on: "A dog." for "The image shows a dog."."""
    opening = _OPENING.match(caption)
    rest = caption[opening.end() :] if opening else ""
    return rest[:1].upper() + rest[1:] if opening else caption
