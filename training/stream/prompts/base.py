"""The prompt, what it refers to, and what all builders share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from manifests.prompt import ImageSegment, Insertion, InterleavedPrompt, Segment, TextSegment
from manifests.record import Span
from training.stream.example import Example, ExampleSubject, SampleError
from training.stream.geometry import Box, Framing, frame_box, visible_share
from training.stream.keyed import Draws

Role: TypeAlias = Literal["subject", "head", "face", "region", "control", "image"]
"""What a reference image shows. A ``control`` and the ``image`` show the whole target: framed as it is."""

Colour: TypeAlias = tuple[int, int, int]
"""RGB, uint8."""


class Augmentation(Struct, frozen=True, kw_only=True, gc=False):
    """What is done to a reference image: cropped, then brought to its size, then the rest in this order.

    Attributes:
        crop: What is kept of it: left, top, right, bottom as fractions.
        is_flipped: Left and right change places.
        is_grey: Colour is taken away.
        noise: Deviation of the noise added, on [0, 1].
    """

    crop: tuple[float, float, float, float]
    is_flipped: bool
    is_grey: bool
    noise: float


class Reference(Struct, frozen=True, kw_only=True, gc=False):
    """An image that a prompt refers to.

    Attributes:
        name: Its name in the prompt: ``subject0``, ``face0``, ``canny``, ``image`` …
        role: What it shows.
        member: Its pixels in the shard; ``None``: features stand for it, and no pixels are decoded.
        subject: The number of its subject in the example; ``None`` if it shows none.
        span: The characters of the prompt's caption that it goes with; ``None``: with none.
        mask: Where the target shows it: a mask in the shard, at the stored target's size.
        box: Where the framed target shows it, pixels; it may reach outside.
        side: It is made a square of so many pixels, its aspect kept; ``None``: it stays as it is stored.
        fill: Colour of the rest of the square.
        augmentation: What is done to it; the rest of the square stays plain. ``None``: nothing.
        features: Names of the features of it.
    """

    name: str
    role: Role
    member: str | None
    subject: int | None = None
    span: Span | None = None
    mask: str | None = None
    box: Box | None = None
    side: int | None = None
    fill: Colour = (0, 0, 0)
    augmentation: Augmentation | None = None
    features: tuple[str, ...] = ()


class Prompt(Struct, frozen=True, kw_only=True, gc=False):
    """What a sample is conditioned on.

    Attributes:
        interleaved: Text and images in reading order.
        caption: The text that spans count in, whatever was dropped.
        references: The images of ``interleaved``, in its order.
        features: Names of the features wanted beside those of the references.
        is_text_dropped: The text was left out, for classifier-free guidance.
        are_images_dropped: So were the images.
        is_control_dropped: So was the control.
    """

    interleaved: InterleavedPrompt
    caption: str
    references: tuple[Reference, ...] = ()
    features: tuple[str, ...] = ()
    is_text_dropped: bool = False
    are_images_dropped: bool = False
    is_control_dropped: bool = False

    @property
    def places(self) -> tuple[int, ...]:
        """Where the references stand among the prompt's segments."""
        segments = self.interleaved.segments
        return tuple(number for number, part in enumerate(segments) if isinstance(part, ImageSegment))

    @property
    def text(self) -> str:
        """What is left to read without the images: words that an image stands for are gone, all others are there."""
        return "".join(_words(segment) for segment in self.interleaved.segments)


def _words(segment: Segment) -> str:
    if isinstance(segment, TextSegment):
        return segment.text
    return segment.phrase if segment.insertion == "feature" else ""


_IN_SEQUENCE = ("replace", "before")


class Builder(Protocol):
    """Makes prompts. Implementations are frozen dataclasses of plain values, which say all that they depend on."""

    @property
    def wants_picture_features(self) -> bool:
        """Whether its prompts may want features of pictures, which know no flip."""
        ...

    def build(self, example: Example, framing: Framing, draws: Draws) -> Prompt:
        """The prompt of an example whose target is framed like this.

        Raises:
            SampleError: ``bad_span``: its spans and its caption are not of each other.
        """
        ...


@dataclass(frozen=True, slots=True)
class Dropped:
    """What is left out of a prompt for classifier-free guidance."""

    text: bool
    images: bool


def draw_drop(draws: Draws, both: float, text: float, images: float) -> Dropped:
    """Leave out both, the text alone or the images alone, each at its rate: never two of these. Draws ``drop``."""
    place = draws.uniform("drop")
    is_both = place < both
    return Dropped(
        text=is_both or both <= place < both + text, images=is_both or both + text <= place < both + text + images
    )


def text_only(example: Example, draws: Draws, variant_rate: float, drop_rate: float = 0.0) -> Prompt:
    """A prompt without images.

    Args:
        example: Where the texts are.
        draws: Of the sample; named ``variant`` and ``caption``.
        variant_rate: How often one of all its texts is taken, not the caption.
        drop_rate: How often the prompt is empty; as the first part of ``drop``.
    """
    caption = draws.choice("caption", example.captions) if draws.chance("variant", variant_rate) else example.caption
    is_dropped = draw_drop(draws, drop_rate, 0, 0).text
    return Prompt(
        interleaved=weave("" if is_dropped else caption, (), "replace"),
        caption=caption,
        is_text_dropped=is_dropped,
        are_images_dropped=is_dropped,
    )


def usable_subjects(example: Example, framing: Framing, min_visible: float) -> list[int]:
    """Numbers of the subjects with a reference image, of which the framed target shows enough.

    A subject whose place is not known counts as shown.

    Raises:
        SampleError: ``bad_span``.
    """
    return [
        number
        for number, subject in enumerate(example.subjects)
        if _is_at_its_span(subject, example) and subject.crop and is_shown(subject.box, framing, min_visible)
    ]


def _is_at_its_span(subject: ExampleSubject, example: Example) -> bool:
    if subject.span.of(example.caption) != subject.phrase:
        raise SampleError("bad_span", f"{example.key}: its caption does not have {subject.phrase!r} at {subject.span}")
    return True


def is_shown(box: Box | None, framing: Framing, min_visible: float) -> bool:
    """Whether the framed target shows at least this share of a box; one that is not known counts as shown."""
    return box is None or framing.is_whole or visible_share(box, framing) >= min_visible


def disjoint(numbers: Sequence[int], spans: Mapping[int, Span]) -> list[int]:
    """The numbers in the order of their spans, without those whose span overlaps an earlier one."""
    kept: list[int] = []
    for number in sorted(numbers, key=lambda number: (spans[number].start, number)):
        if not kept or spans[kept[-1]].end <= spans[number].start:
            kept.append(number)
    return kept


def weave(caption: str, references: Sequence[Reference], insertion: Insertion, lead: str = "") -> InterleavedPrompt:
    """Caption and images as an interleaved prompt.

    Args:
        caption: The text.
        references: Those without words first, then the others in reading order, their spans disjoint.
        insertion: How those with words enter. The others join the sequence where these do, else stand beside it.
        lead: Text between the ones without words and the caption.
    """
    segments: list[Segment] = []
    text, written = lead, 0
    for reference in references:
        span = reference.span
        if span is None:
            segments.append(ImageSegment(reference.name, "", "before" if insertion in _IN_SEQUENCE else "side"))
            continue
        _write(segments, text + caption[written : span.start])
        segments.append(ImageSegment(reference.name, span.of(caption), insertion))
        text, written = "", span.start if insertion == "before" else span.end
    _write(segments, text + caption[written:])
    return InterleavedPrompt(tuple(segments))


def _write(segments: list[Segment], text: str) -> None:
    if text:
        segments.append(TextSegment(text))


def subject_reference(
    example: Example, number: int, framing: Framing, side: int | None = None, fill: Colour = (0, 0, 0)
) -> Reference:
    """The reference to a subject by its phrase and its crop."""
    subject = example.subjects[number]
    return Reference(
        name=f"subject{number}",
        role="subject",
        member=subject.crop,
        subject=number,
        span=subject.span,
        mask=subject.mask,
        box=frame_box(subject.box, framing) if subject.box else None,
        side=side,
        fill=fill,
    )
