"""Phrases: which things a caption names, with the words and the head noun of each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from pydantic import Field
from typing_extensions import override

from manifests.record import DroppedSubject, ModelUse, Subject
from stages.base import Context, Drop, Fail, Params, Stage
from stages.parser import Chunk, Parser, SpacyParser, parser_use

# fmt: off
NOT_DEPICTED = (
    # where something is
    "front", "back", "rear", "top", "bottom", "side", "left", "right", "middle", "center", "centre", "edge", "end",
    "corner", "inside", "outside", "background", "foreground", "distance", "direction", "position", "place", "spot",
    "location", "area", "part", "way", "rest",
    # how much of something
    "group", "bunch", "couple", "pair", "lot", "number", "amount", "variety", "collection", "assortment", "array",
    "series", "row", "line", "piece", "slice", "bit", "portion", "half", "dozen", "handful", "herd", "flock", "type",
    "kind", "sort", "style",
    # the picture itself
    "photo", "photograph", "photography", "picture", "pic", "image", "shot", "snapshot", "view", "scene", "close",
    "up", "closeup", "close-up", "wallpaper", "illustration", "vector", "clipart", "rendering", "screenshot", "footage",
    # what has no outline
    "color", "colour", "size", "shape", "day", "night", "time", "year",
)
"""Head nouns that link, count or frame what a picture shows but are not themselves shown in it."""
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class PhrasesIn:
    """What ``phrases`` reads."""

    caption: str
    dropped_subjects: tuple[DroppedSubject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhrasesOut:
    """What ``phrases`` writes: subjects in the caption's order, none overlapping another."""

    subjects: tuple[Subject, ...]
    dropped_subjects: tuple[DroppedSubject, ...]


class PhrasesParams(Params):
    """Which model reads the captions, and which of the things they name become subjects."""

    model: str = Field(
        "en_caption",
        min_length=1,
        description="spaCy pipeline: the bundled en_caption, an installed package or a folder.",
    )
    stop_heads: tuple[str, ...] | None = Field(
        None,
        description="Phrases with such a head noun, or that are such a word, name nothing to be seen. Lower case; null "
        "is the built-in list of about a hundred: front, top, group, piece, view, photo …",
    )
    plurals: Literal["keep", "drop"] = Field("keep", description="What becomes of plural and counted phrases.")
    unique: Literal["phrase", "head", "none"] = Field(
        "phrase",
        description="Of subjects with the same phrase (case aside), or the same head noun, only the first is kept.",
    )
    min_letters: int = Field(2, ge=1, description="Phrases with fewer letters are dropped.")
    max_subjects: int = Field(32, ge=1, description="Subjects of a caption after the first so many are dropped.")
    max_alike: int | None = Field(
        None, ge=1, description="Captions that name more things by one head noun drop their records; λ-ECLIPSE has 6."
    )
    require: bool = Field(True, description="Drop records whose caption names no subject.")


class Phrases(Stage[PhrasesIn, PhrasesOut]):
    """Find the noun phrases of a caption: "two big dogs on the beach" names "big dogs" and "beach".

    A phrase has no leading article, possessive pronoun, number or quantifier; years stay ("2014 Ford").
    """

    In, Out, Params = PhrasesIn, PhrasesOut, PhrasesParams
    reasons: ClassVar[Mapping[str, str]] = {
        "not_a_noun": "The phrase's head is a pronoun, a number or a mark.",
        "absent": "The caption says that it is not there.",
        "not_depicted": "The head noun is in stop_heads: it links, counts or frames what is shown.",
        "too_short": "The phrase has fewer letters than min_letters.",
        "plural": "The phrase is plural or counted.",
        "duplicate_phrase": "An earlier subject has the same phrase or head noun.",
        "too_many_phrases": "As many as max_subjects come before it.",
        "no_phrases": "The caption names no subject.",
        "too_many_alike": "More than max_alike phrases that name something have the same head noun.",
    }
    writes_to_subjects = frozenset({"phrase", "span", "head", "head_span", "is_plural"})

    def __init__(self, params: PhrasesParams, parser: Parser) -> None:
        self.params = params
        self._parser = parser
        self._stop_heads = frozenset(NOT_DEPICTED if params.stop_heads is None else params.stop_heads)

    @override
    @classmethod
    def load(cls, params: PhrasesParams, context: Context) -> Self:
        return cls(params, SpacyParser(params.model))

    @override
    @classmethod
    def models(cls, params: PhrasesParams) -> tuple[ModelUse, ...]:
        return (parser_use(params.model),)

    @override
    def process(self, batch: Sequence[PhrasesIn]) -> list[PhrasesOut | Drop | Fail]:
        return [self._phrases(record, list(self._parser(record.caption))) for record in batch]

    def _phrases(self, record: PhrasesIn, chunks: Sequence[Chunk]) -> PhrasesOut | Drop:
        kept: dict[str | int, Subject] = {}
        dropped: list[DroppedSubject] = []
        for chunk in chunks:
            subject = chunk.subject
            identity = self._identity(subject)
            reason = self._unfit(chunk) or self._surplus(identity, kept)
            if reason:
                dropped.append(DroppedSubject(phrase=subject.phrase, stage="phrases", reason=reason))
            else:
                kept[identity] = subject
        if not kept and self.params.require:
            return Drop("no_phrases", f"in {record.caption[:80]!r}")
        if drop := self._too_many_alike(chunks):
            return drop
        return PhrasesOut(subjects=tuple(kept.values()), dropped_subjects=record.dropped_subjects + tuple(dropped))

    def _too_many_alike(self, chunks: Sequence[Chunk]) -> Drop | None:
        """Counts what the caption says: also those for which there is no place as subjects."""
        limit = self.params.max_alike
        if limit is None:
            return None
        heads = Counter(chunk.subject.head for chunk in chunks if self._unfit(chunk) is None)
        for head, alike in heads.most_common(1):
            if alike > limit:
                return Drop("too_many_alike", f"{alike} x {head}, max_alike is {limit}")
        return None

    def _identity(self, subject: Subject) -> str | int:
        """What no two subjects of a record share."""
        match self.params.unique:
            case "phrase":
                return subject.phrase.casefold()
            case "head":
                return subject.head
            case "none":
                return subject.span.start

    def _unfit(self, chunk: Chunk) -> str | None:
        """Why the chunk is no subject in any company, if so."""
        subject = chunk.subject
        if not chunk.is_noun:
            return "not_a_noun"
        if chunk.is_absent:
            return "absent"
        if not self._stop_heads.isdisjoint((subject.head, subject.phrase.lower())):
            return "not_depicted"
        if sum(map(str.isalpha, subject.phrase)) < self.params.min_letters:
            return "too_short"
        return "plural" if subject.is_plural and self.params.plurals == "drop" else None

    def _surplus(self, identity: str | int, kept: Mapping[str | int, Subject]) -> str | None:
        """Why there is no place for the chunk beside those kept before it, if so."""
        if identity in kept:
            return "duplicate_phrase"
        return "too_many_phrases" if len(kept) >= self.params.max_subjects else None
