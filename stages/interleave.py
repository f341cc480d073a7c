"""Caption and subjects to the interleaved prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from pydantic import Field
from typing_extensions import override

from manifests.prompt import ImageSegment, Insertion, InterleavedPrompt, Segment, TextSegment
from manifests.record import Control, Span, Subject
from stages.base import Context, Drop, Fail, Params, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class InterleaveIn:
    """What ``interleave`` reads."""

    caption: str
    subjects: tuple[Subject, ...]
    controls: tuple[Control, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterleaveOut:
    """What ``interleave`` writes."""

    prompt: InterleavedPrompt


class InterleaveParams(Params):
    """What a manifest may set on ``interleave``."""

    insertion: Insertion = Field(
        "replace",
        description="How subjects enter the text: replace (UNIMO-G), before (MUMU), feature (λ-ECLIPSE), side (EMMA).",
    )
    words: Literal["phrase", "head"] = Field(
        "phrase", description="Words an image goes with: the whole phrase, or its head noun as in λ-ECLIPSE."
    )
    max_images: int = Field(4, ge=0, description="Most subjects in a prompt; the first in reading order stay.")
    control: Literal["none", "canny", "depth", "sketch"] = Field("none", description="Control image to begin with.")
    whole_image: bool = Field(False, description="Begin with the whole picture.")
    allow_text_only: bool = Field(False, description="Keep records whose prompt has no image.")


class Interleave(Stage[InterleaveIn, InterleaveOut]):
    """Make the interleaved prompt.

    Subjects that have a crop enter it. Where the words of two of them overlap, those with the longer words enter, then
    the earlier; the other stays a subject of the record, without a place in the prompt. A segment's number is the
    subject's place in ``Record.subjects``.
    """

    In, Out, Params = InterleaveIn, InterleaveOut, InterleaveParams
    reasons: ClassVar[Mapping[str, str]] = {
        "no_image_segment": "The prompt has no image.",
        "no_control": "The record lacks the control image that its prompt should begin with.",
    }
    reads_of_subjects = frozenset({"crop"})

    def __init__(self, params: InterleaveParams) -> None:
        self.params = params

    @override
    @classmethod
    def load(cls, params: InterleaveParams, context: Context) -> Self:
        return cls(params)

    @override
    def process(self, batch: Sequence[InterleaveIn]) -> list[InterleaveOut | Drop | Fail]:
        return [self._interleave(record) for record in batch]

    def _interleave(self, record: InterleaveIn) -> InterleaveOut | Drop | Fail:
        p = self.params
        if p.control != "none" and p.control not in [control.kind for control in record.controls]:
            return Fail("no_control", f"the record has no {p.control}; put a control node before interleave")
        for subject in record.subjects:
            check_span(subject, record.caption)
        cut = [number for number, subject in enumerate(record.subjects) if subject.crop]
        spans = [subject.span if p.words == "phrase" else subject.head_span for subject in record.subjects]
        chosen = choose([spans[number] for number in cut])[: p.max_images]
        places = [(cut[number], span) for number, span in chosen]
        prompt = interleave(record.caption, places, p.insertion, self._leading())
        if not prompt.images and not p.allow_text_only:
            return Drop("no_image_segment", f"{len(record.subjects)} subjects, max_images is {p.max_images}")
        return InterleaveOut(prompt=prompt)

    def _leading(self) -> tuple[ImageSegment, ...]:
        """Images without words. They join the sequence where subjects do, and else stand beside the text.

        For MUMU the place of the control image is not stated; the start is our choice.
        """
        p = self.params
        insertion: Insertion = "before" if p.insertion in ("replace", "before") else "side"
        members = ["image"] * p.whole_image + [p.control] * (p.control != "none")
        return tuple(ImageSegment(member, "", insertion) for member in members)


def check_span(subject: Subject, caption: str) -> None:
    """Refuse a subject whose phrase is not at its span.

    Raises:
        ValueError: If so; the caption has been changed since the phrases were found.
    """
    found = subject.span.of(caption)
    if found != subject.phrase:
        raise ValueError(
            f"subject {subject.phrase!r}: its span holds {found!r}; was the caption changed after phrases?"
        )


Place = tuple[int, Span]
"""A subject's number and the words its image goes with."""


def choose(spans: Sequence[Span]) -> list[Place]:
    """The spans that overlap no better one, in reading order: better is longer, then earlier, then of lower number."""
    chosen: list[Place] = []
    for place in sorted(enumerate(spans), key=lambda place: (place[1].start - place[1].end, place[1].start)):
        if all(place[1].end <= other.start or other.end <= place[1].start for _, other in chosen):
            chosen.append(place)
    return sorted(chosen, key=lambda place: place[1].start)


def interleave(
    caption: str, places: Sequence[Place], insertion: Insertion, leading: Sequence[ImageSegment] = ()
) -> InterleavedPrompt:
    """The prompt of a caption with an image at each place; its segments concatenate to the caption.

    Args:
        caption: The plain caption.
        places: In reading order, not overlapping.
        insertion: How the images enter; ``side`` puts them all before the text.
        leading: Images without words, put first.
    """
    images = [ImageSegment(f"subject{number}", span.of(caption), insertion) for number, span in places]
    if insertion == "side":
        return InterleavedPrompt((*leading, *images, *_text(caption)))
    segments: list[Segment] = list(leading)
    done = 0
    for (_, span), image in zip(places, images, strict=True):
        segments += [*_text(caption[done : span.start]), image]
        done = span.start + len(image.caption_text)
    return InterleavedPrompt((*segments, *_text(caption[done:])))


def _text(text: str) -> list[TextSegment]:
    return [TextSegment(text)] if text else []
