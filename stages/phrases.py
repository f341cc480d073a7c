"""Phrases: which things a caption names, with the words and the head noun of each."""

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

from pydantic import Field
from typing_extensions import override

from manifests.record import DroppedSubject, ModelUse, Span, Subject
from stages.base import Context, Drop, Fail, Params, Stage

_BUNDLED = Path(__file__).parent / "data"
_ABOUT = frozenset({"meta.json", "README.md", "LICENSE", "LICENSES_SOURCES", "NOTICE"})

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

_LEADING = frozenset({"DET", "PRON", "NUM"})
_QUANTIFIERS = frozenset({"several", "many", "few", "multiple", "various", "numerous"})
_MARKS = frozenset({"PUNCT", "SPACE", "SYM"})
_ONE = frozenset({"one", "1"})
_YEAR = re.compile(r"[0-9]{4}")
_LONG_WORD = re.compile(r"(?:[!-~]|[^\w\s\x00-\x7f]){200,}")  # Letters beyond ASCII may do without spaces.


@dataclass(frozen=True, slots=True)
class Chunk:
    """A noun chunk of a caption.

    Attributes:
        subject: What it would be as a subject.
        is_noun: Its head is a noun or a name, not a pronoun or a number.
        is_absent: The caption says that it is not there: "no dogs", "without a hat".
    """

    subject: Subject
    is_noun: bool
    is_absent: bool


class Parser(Protocol):
    """What finds the noun chunks of a caption, in their order."""

    def __call__(self, caption: str) -> list[Chunk]:
        """The chunks; spans count code points of ``caption``."""


class SpacyParser:
    """Noun chunks by a spaCy pipeline that has a parser and a tagger, in a language whose noun chunks spaCy knows."""

    def __init__(self, folder: Path) -> None:
        import spacy

        self._nlp = spacy.load(folder, exclude=["ner"])

    def __call__(self, caption: str) -> list[Chunk]:
        """The chunks of one caption, parsed on its own, as padding in a batch could change the last bits."""
        with self._nlp.memory_zone():
            return [_chunk(span, caption) for span in self._nlp(_parsable(caption)).noun_chunks]


def _parsable(caption: str) -> str:
    """The caption, character for character, as a parser reads it best.

    Captions all in capitals, which it would take for names, are put in lower case. Words that go on for ever, such as
    rows of emoji, are blanked: spaCy's tokenizer takes time quadratic in their length.
    """
    lower = caption.lower()
    text = lower if caption.isupper() and len(lower) == len(caption) else caption
    return _LONG_WORD.sub(lambda word: " " * len(word[0]), text)


def _chunk(chunk: Any, caption: str) -> Chunk:
    root = chunk.root
    leading = list(takewhile(lambda token: token.i < root.i and _is_leading(token, root), chunk))
    span = Span(start=chunk[len(leading)].idx, end=chunk.end_char)
    subject = Subject(
        phrase=span.of(caption),
        span=span,
        head=(root.lemma_ or root.text).lower(),
        head_span=Span(start=root.idx, end=root.idx + len(root)),
        is_plural=_is_plural(root) or any(map(_counts_several, leading)),
    )
    return Chunk(subject, root.pos_ in ("NOUN", "PROPN"), _is_absent(root))


def _is_leading(token: Any, root: Any) -> bool:
    """Whether a word before the head says which or how many, and not what."""
    if token.pos_ in _MARKS:
        return True
    if not token.whitespace_:  # "two-story house", "all-white cat"
        return False
    if token.pos_ == "NUM":  # but not "two year old boy", "2014 Ford"
        return token.head == root and not _YEAR.fullmatch(token.text)
    if token.pos_ == "ADV":  # "about 20 people", "almost all the dogs"
        return token.nbor().pos_ in _LEADING
    return token.pos_ in _LEADING or token.lower_ in _QUANTIFIERS


def _counts_several(token: Any) -> bool:
    return token.lower_ in _QUANTIFIERS or (token.pos_ == "NUM" and token.lower_ not in _ONE)


def _is_plural(root: Any) -> bool:
    return root.tag_ in ("NNS", "NNPS") or "Plur" in root.morph.get("Number")


def _is_absent(root: Any) -> bool:
    return root.head.lower_ == "without" or any(child.lower_ == "no" for child in root.lefts)


def find_model(name: str) -> Path:
    """The folder of a spaCy pipeline: one bundled here, else a folder of that path, else an installed package.

    Raises:
        ValueError: If there is none of that name, or it cannot find noun chunks.
    """
    for folder in (_BUNDLED / name, Path(name), *_package_folders(name)):
        if (folder / "config.cfg").is_file() and (folder / "meta.json").is_file():
            if "parser" not in _meta(folder)["pipeline"]:
                raise ValueError(f"the spaCy model {name!r} in {folder} has no parser, so it finds no noun chunks")
            return folder
    bundled = ", ".join(sorted(path.parent.name for path in _BUNDLED.glob("*/meta.json")))
    raise ValueError(
        f"no spaCy model {name!r}: bundled is {bundled}; there is no folder {Path(name).absolute()} with a config.cfg "
        f"and a meta.json, and no package of that name is installed (spaCy's own: python -m spacy download {name})"
    )


def _package_folders(name: str) -> Iterator[Path]:
    """Where an installed spaCy package keeps its pipeline, found without importing it."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    for package in map(Path, (spec and spec.submodule_search_locations) or ()):
        if (package / "meta.json").is_file():
            yield package / f"{name}-{_meta(package)['version']}"


def _meta(folder: Path) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    return meta


@cache
def revision(folder: Path) -> str:
    """A pipeline's version and a short hash over every file that shapes its output."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in _ABOUT:
            with path.open("rb") as file:
                digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return f"{_meta(folder)['version']}+{digest.hexdigest()[:12]}"


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
    }
    writes_to_subjects = frozenset({"phrase", "span", "head", "head_span", "is_plural"})

    def __init__(self, params: PhrasesParams, parser: Parser) -> None:
        self.params = params
        self._parser = parser
        self._stop_heads = frozenset(NOT_DEPICTED if params.stop_heads is None else params.stop_heads)

    @override
    @classmethod
    def load(cls, params: PhrasesParams, context: Context) -> Self:
        return cls(params, SpacyParser(find_model(params.model)))

    @override
    @classmethod
    def models(cls, params: PhrasesParams) -> tuple[ModelUse, ...]:
        return (ModelUse(name=params.model, revision=revision(find_model(params.model))),)

    @override
    def process(self, batch: Sequence[PhrasesIn]) -> list[PhrasesOut | Drop | Fail]:
        return [self._phrases(record) for record in batch]

    def _phrases(self, record: PhrasesIn) -> PhrasesOut | Drop:
        kept: dict[str | int, Subject] = {}
        dropped: list[DroppedSubject] = []
        for chunk in self._parser(record.caption):
            subject = chunk.subject
            identity = self._identity(subject)
            reason = self._unfit(chunk) or self._surplus(identity, kept)
            if reason:
                dropped.append(DroppedSubject(phrase=subject.phrase, stage="phrases", reason=reason))
            else:
                kept[identity] = subject
        if not kept and self.params.require:
            return Drop("no_phrases", f"in {record.caption[:80]!r}")
        return PhrasesOut(subjects=tuple(kept.values()), dropped_subjects=record.dropped_subjects + tuple(dropped))

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
