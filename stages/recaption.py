"""Recaption: a model writes the caption anew from the picture."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field
from typing_extensions import override

from manifests.record import Annotation, Picture
from stages.asking import Asker
from stages.base import Context, Drop, Fail, ModelRef, Stage
from stages.captioning import REASONS, CaptioningParams

if TYPE_CHECKING:
    from stages.models.captioner import Answer

_SENTENCE = re.compile(r".*(?:[.!?…][\"'”’)\]]*(?=\s|$)|[。！？])", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecaptionIn:
    """What ``recaption`` reads."""

    key: str
    image: Picture
    alt_text: str | None
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecaptionOut:
    """What ``recaption`` writes: annotations keep their phrases and have no span, as the words they had are gone."""

    caption: str
    annotations: tuple[Annotation, ...]


class RecaptionParams(CaptioningParams):
    """Which model writes, how it is asked, and which of its captions are fit."""

    prompt: str | None = Field(
        None,
        min_length=1,
        description="What the model is asked; {alt_text} stands for the metadata's text. null: what models of its kind "
        "are asked for a caption.",
    )
    unfinished: Literal["drop", "cut", "keep"] = Field(
        "drop",
        description="What becomes of a caption that max_new_tokens ended: cut takes it to the end of its last whole "
        "sentence, and drops it if there is none.",
    )


class Recaption(Stage[RecaptionIn, RecaptionOut]):
    """Let a model write the caption; what the metadata says stays in ``alt_text``."""

    In, Out, Params = RecaptionIn, RecaptionOut, RecaptionParams
    reasons: ClassVar[Mapping[str, str]] = {
        **REASONS,
        "unfinished_caption": "The caption was at max_new_tokens before it came to its end.",
    }

    def __init__(self, params: RecaptionParams, ask: Asker) -> None:
        self.params = params
        self._ask = ask

    @override
    @classmethod
    def load(cls, params: RecaptionParams, context: Context) -> Self:
        return cls(params, Asker.load(params, params.prompt, context, "recaption"))

    @override
    @classmethod
    def wants(cls, params: RecaptionParams) -> tuple[ModelRef, ...]:
        return (params.ref,)

    @override
    def process(self, batch: Sequence[RecaptionIn]) -> list[RecaptionOut | Drop | Fail]:
        return [self._out(record, answer) for record, answer in zip(batch, self._ask(batch), strict=True)]

    def _out(self, record: RecaptionIn, answer: "Answer | Drop | Fail") -> RecaptionOut | Drop | Fail:
        if isinstance(answer, Drop | Fail):
            return answer
        text = self._finished(answer)
        if text is None:
            return Drop("unfinished_caption", f"{answer.text[:80]!r}…")
        caption = self.params.fit(text)
        if isinstance(caption, Drop):
            return caption
        return RecaptionOut(caption=caption, annotations=tuple(replace(part, span=None) for part in record.annotations))

    def _finished(self, answer: "Answer") -> str | None:
        """As much of the answer as may be used."""
        if answer.end == "stop" or self.params.unfinished == "keep":
            return answer.text
        whole = _SENTENCE.match(answer.text)
        return whole[0] if whole and self.params.unfinished == "cut" else None
