"""Caption: the metadata's text, cleaned, with annotations pointing into the clean text."""

import html
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html.entities import html5
from typing import ClassVar, NamedTuple, Self

from pydantic import Field, model_validator
from typing_extensions import override

from manifests.record import Annotation, Span
from stages.base import Context, Drop, Fail, Params, Stage

_TOKEN = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});|.", re.DOTALL)
_ZERO_WIDTH_JOINERS = "\u200c\u200d"  # They join emoji, and decide how Persian and the scripts of India are spelt.
_EMOJI_TAGS = ("\U000e0020", "\U000e007f")  # They spell the flags of England, Scotland and Wales.
_FIRST_COMBINING = "\u0300"
_MAX_SHRINK = 20  # Text longer than max_chars by this factor is a whole page, or made to keep NFC busy.


@dataclass(frozen=True, slots=True)
class CleanText:
    """A cleaned text that knows where each of its characters came from.

    Attributes:
        text: In NFC, with HTML entities replaced, no control or invisible characters, and single spaces between words.
        starts: For each character, where in the original what it stands for starts; never decreasing.
        ends: And where that ends; never decreasing.
    """

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def anchor(self, span: Span) -> Span | None:
        """Where the text that ``span`` covered in the original is now, without spaces at its ends.

        A character that came from several, such as an entity, counts as covered if any of them is. ``None`` if nothing
        of the covered text is left.
        """
        start = bisect_right(self.ends, span.start)
        end = max(start, bisect_left(self.starts, span.end))
        covered = self.text[start:end]
        start += len(covered) - len(covered.lstrip(" "))
        end = start + len(covered.strip(" "))
        return Span(start=start, end=end) if start < end else None


def clean(text: str) -> CleanText:
    """The text as a caption has it.

    HTML entities that end in a semicolon are replaced, once; control characters, lone surrogates and invisible format
    characters are removed, but for those that emoji and scripts need; the rest is brought to NFC; runs of whitespace,
    line ends and no-break spaces become one space, and none at the ends.
    """
    pieces = list(_single_spaces(_composed(_visible(_unescaped(text)))))
    return CleanText(
        text="".join(piece.text for piece in pieces),
        starts=tuple(piece.start for piece in pieces),
        ends=tuple(piece.end for piece in pieces),
    )


class _Piece(NamedTuple):
    """A character, and the part ``[start, end)`` of the original that it stands for."""

    text: str
    start: int
    end: int


def _unescaped(text: str) -> Iterator[_Piece]:
    for token in _TOKEN.finditer(text):
        start, end = token.span()
        plain = _unescape(token[0])
        if plain == token[0]:
            yield from (_Piece(char, i, i + 1) for i, char in enumerate(plain, start))
        else:
            yield from (_Piece(char, start, end) for char in plain)


def _unescape(token: str) -> str:
    # html.unescape also takes "&notit;" for "¬it;", as browsers do; in a caption that is rather text than markup.
    return html.unescape(token) if token.startswith("&#") else html5.get(token[1:], token)


def _visible(pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    return (piece for piece in pieces if _is_visible(piece.text))


def _is_visible(char: str) -> bool:
    match unicodedata.category(char):
        case "Cc":
            return char.isspace()
        case "Cf":
            return char in _ZERO_WIDTH_JOINERS or _EMOJI_TAGS[0] <= char <= _EMOJI_TAGS[1]
        case category:
            return category != "Cs"


def _composed(pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    """The pieces in NFC; those that only together have a normal form share their origin."""
    group: list[_Piece] = []
    for piece in pieces:
        if group and _is_boundary(group, piece.text):
            yield from _compose(group)
            group = []
        group.append(piece)
    yield from _compose(group)


def _is_boundary(group: Sequence[_Piece], char: str) -> bool:
    """Whether NFC leaves the group alone whatever follows from ``char`` on."""
    if char < _FIRST_COMBINING:
        return True
    if unicodedata.combining(unicodedata.normalize("NFD", char)[0]):
        return False
    left = "".join(piece.text for piece in group)
    apart = unicodedata.normalize("NFC", left) + unicodedata.normalize("NFC", char)
    return unicodedata.normalize("NFC", left + char) == apart


def _compose(group: Sequence[_Piece]) -> Iterator[_Piece]:
    text = "".join(piece.text for piece in group)
    normal = unicodedata.normalize("NFC", text)
    if normal == text:
        return iter(group)
    return (_Piece(char, group[0].start, group[-1].end) for char in normal)


def _single_spaces(pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    """The pieces with runs of whitespace as one space between others, and none at the ends."""
    gap: list[_Piece] = []
    is_first = True
    for piece in pieces:
        if piece.text.isspace():
            gap.append(piece)
            continue
        if gap and not is_first:
            yield _Piece(" ", gap[0].start, gap[-1].end)
        yield piece
        gap, is_first = [], False


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionIn:
    """What ``caption`` reads."""

    alt_text: str | None
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionOut:
    """What ``caption`` writes: from here on the annotations' spans point into the caption."""

    caption: str
    annotations: tuple[Annotation, ...]


class LengthParams(Params):
    """How long captions may be, in Unicode code points, after cleaning."""

    min_chars: int = Field(3, ge=1, description="Shorter captions are dropped.")
    max_chars: int = Field(1000, ge=1, description="Longer captions are dropped; none is ever cut.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_chars > self.max_chars:
            raise ValueError(f"min_chars {self.min_chars} is above max_chars {self.max_chars}: nothing would pass")
        return self

    def misfit(self, caption: str) -> Drop | None:
        """Why a caption is too short or too long, if it is."""
        if len(caption) < self.min_chars:
            return Drop("too_short", f"{caption!r} has {len(caption)} characters; min_chars is {self.min_chars}")
        return self.too_long(caption) if len(caption) > self.max_chars else None

    def too_long(self, text: str) -> Drop:
        """The verdict on a text with more than ``max_chars`` characters."""
        return Drop("too_long", f"{text[:40]!r}… has {len(text)} characters; max_chars is {self.max_chars}")


class CaptionParams(LengthParams):
    """Which captions are fit."""


class Caption(Stage[CaptionIn, CaptionOut]):
    """Take the caption from the metadata's text, cleaned, and move the annotations' spans along.

    An annotation whose words are lost keeps its box and has no span any more.
    """

    In, Out, Params = CaptionIn, CaptionOut, CaptionParams
    reasons: ClassVar[Mapping[str, str]] = {
        "no_caption": "There is no text, or none but spaces and invisible characters.",
        "too_short": "The caption has fewer characters than min_chars.",
        "too_long": "The caption has more characters than max_chars.",
    }

    def __init__(self, params: CaptionParams) -> None:
        self.params = params

    @override
    @classmethod
    def load(cls, params: CaptionParams, context: Context) -> Self:
        return cls(params)

    @override
    @classmethod
    def lives_on(cls, params: CaptionParams) -> Mapping[str, str]:
        return {"alt_text": "let a recaption or describe node write the captions"}

    @override
    def process(self, batch: Sequence[CaptionIn]) -> list[CaptionOut | Drop | Fail]:
        return [self._caption(record) for record in batch]

    def _caption(self, record: CaptionIn) -> CaptionOut | Drop:
        text = record.alt_text or ""
        if len(text) > _MAX_SHRINK * self.params.max_chars:
            return self.params.too_long(text)
        cleaned = clean(text)
        annotations = tuple(_anchored(annotation, cleaned) for annotation in record.annotations)
        misfit = self.params.misfit(cleaned.text) if cleaned.text else Drop("no_caption")
        return misfit or CaptionOut(caption=cleaned.text, annotations=annotations)


def _anchored(annotation: Annotation, cleaned: CleanText) -> Annotation:
    return replace(annotation, span=cleaned.anchor(annotation.span) if annotation.span else None)
