"""Describe: a model writes the caption and lists what it names, in one answer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import override

from manifests.record import Annotation, DroppedSubject, ModelUse, Picture, Subject
from stages.asking import Asker
from stages.base import Context, Drop, Fail, ModelRef, Stage
from stages.caption import clean
from stages.captioning import REASONS, CaptioningParams
from stages.parser import Chunk, SpacyParser, parser_use
from stages.words import anchor, occurrences

if TYPE_CHECKING:
    from stages.models.captioner import Answer

PROMPT = (
    "Describe this image in one sentence. Then list the phrases of your sentence that name the people, animals and "
    "things in it, each exactly as it stands in the sentence. Answer with one JSON object and nothing else: "
    '{"caption": "the sentence", "entities": ["a phrase", "another phrase"]}'
)

_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)


class Description(BaseModel):
    """What the model has to answer, as JSON, and nothing beside it."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    caption: str
    entities: tuple[str, ...]


def parse(answer: str) -> Description:
    """The description that an answer is: a JSON object, in a Markdown code fence or without.

    Raises:
        ValidationError: If it is anything else, or anything more.
    """
    fenced = _FENCE.fullmatch(answer)
    return Description.model_validate_json(fenced[1] if fenced else answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeIn:
    """What ``describe`` reads."""

    key: str
    image: Picture
    alt_text: str | None
    annotations: tuple[Annotation, ...]
    dropped_subjects: tuple[DroppedSubject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeOut:
    """What ``describe`` writes: subjects in the caption's order, none overlapping another; annotations have no span."""

    caption: str
    annotations: tuple[Annotation, ...]
    subjects: tuple[Subject, ...]
    dropped_subjects: tuple[DroppedSubject, ...]


class DescribeParams(CaptioningParams):
    """Which model describes, how it is asked, and which of its captions and phrases are fit."""

    max_new_tokens: int = Field(512, ge=1, le=4096, description="Tokens that the model writes at most.")
    prompt: str = Field(
        PROMPT,
        min_length=1,
        description="What the model is asked; it must demand the JSON object. {alt_text} stands for the metadata's "
        "text.",
    )
    parser: str = Field(
        "en_caption",
        min_length=1,
        description="spaCy pipeline that finds the phrases' head nouns: the bundled en_caption, an installed package "
        "or a folder.",
    )
    nouns_only: bool = Field(
        False, description="Drop phrases whose head the parser takes for no noun; the model may know better."
    )
    min_subjects: int = Field(0, ge=0, description="Records with fewer subjects are dropped.")
    max_subjects: int = Field(32, ge=1, description="Subjects of a caption after the first so many are dropped.")


class Describe(Stage[DescribeIn, DescribeOut]):
    """Let a model write the caption and list its entities, and anchor each of them in the caption.

    Source: Li et al. 2024, "UNIMO-G", whose data a multimodal model captions, listing each caption's entities.
    """

    In, Out, Params = DescribeIn, DescribeOut, DescribeParams
    reasons: ClassVar[Mapping[str, str]] = {
        **REASONS,
        "unparsable_answer": "The answer is not the JSON object that the prompt demands, or not that alone.",
        "not_in_caption": "The phrase is not in the caption.",
        "no_place_left": "All places of the phrase in the caption belong to longer or earlier phrases.",
        "not_a_noun": "The phrase's head is no noun, and nouns_only is set.",
        "absent": "The caption says that it is not there.",
        "too_many_phrases": "As many as max_subjects come before it.",
        "too_few_subjects": "Fewer subjects than min_subjects are left.",
    }
    writes_to_subjects = frozenset({"phrase", "span", "head", "head_span", "is_plural"})

    def __init__(self, params: DescribeParams, ask: Asker, parser: SpacyParser) -> None:
        self.params = params
        self._ask = ask
        self._parser = parser

    @override
    @classmethod
    def load(cls, params: DescribeParams, context: Context) -> Self:
        return cls(params, Asker.load(params, params.prompt, context, "describe"), SpacyParser(params.parser))

    @override
    @classmethod
    def wants(cls, params: DescribeParams) -> tuple[ModelRef, ...]:
        return (params.ref,)

    @override
    @classmethod
    def models(cls, params: DescribeParams) -> tuple[ModelUse, ...]:
        return (*super().models(params), parser_use(params.parser))

    @override
    def process(self, batch: Sequence[DescribeIn]) -> list[DescribeOut | Drop | Fail]:
        return [self._out(record, answer) for record, answer in zip(batch, self._ask(batch), strict=True)]

    def _out(self, record: DescribeIn, answer: "Answer | Drop | Fail") -> DescribeOut | Drop | Fail:
        if isinstance(answer, Drop | Fail):
            return answer
        try:
            said = parse(answer.text)
        except ValidationError:
            return Fail("unparsable_answer", f"{answer.text[:200]!r}" + " …, cut" * (answer.end == "cut"))
        caption = self.params.fit(said.caption)
        if isinstance(caption, Drop):
            return caption
        subjects, dropped = self._subjects(caption, [clean(phrase).text for phrase in said.entities])
        if len(subjects) < self.params.min_subjects:
            return Drop("too_few_subjects", f"{len(subjects)} in {caption[:80]!r}")
        return DescribeOut(
            caption=caption,
            annotations=tuple(replace(part, span=None) for part in record.annotations),
            subjects=tuple(subjects),
            dropped_subjects=(*record.dropped_subjects, *dropped),
        )

    def _subjects(self, caption: str, phrases: Sequence[str]) -> tuple[list[Subject], list[DroppedSubject]]:
        places = anchor(caption, phrases)
        dropped = [_lost(caption, phrase) for phrase, place in zip(phrases, places, strict=True) if not place]
        kept: list[Subject] = []
        for chunk in self._parser.read(caption, sorted(filter(None, places), key=lambda span: span.start)):
            reason = self._unfit(chunk, len(kept))
            if reason:
                dropped.append(DroppedSubject(phrase=chunk.subject.phrase, stage="describe", reason=reason))
            else:
                kept.append(chunk.subject)
        return kept, dropped

    def _unfit(self, chunk: Chunk, kept: int) -> str | None:
        """Why the chunk is no subject after ``kept`` others, if so."""
        if self.params.nouns_only and not chunk.is_noun:
            return "not_a_noun"
        if chunk.is_absent:
            return "absent"
        return "too_many_phrases" if kept >= self.params.max_subjects else None


def _lost(caption: str, phrase: str) -> DroppedSubject:
    reason = "no_place_left" if any(occurrences(caption, phrase)) else "not_in_caption"
    return DroppedSubject(phrase=phrase, stage="describe", reason=reason)
