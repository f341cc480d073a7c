"""Reading a caption's grammar with spaCy: its noun chunks, and the head noun and number of any phrase in it."""

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from manifests.record import ModelUse, Span, Subject

_BUNDLED = Path(__file__).parent / "data"
_ABOUT = frozenset({"meta.json", "README.md", "LICENSE", "LICENSES_SOURCES", "NOTICE"})

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
    """A spaCy pipeline that has a parser and a tagger, in a language whose noun chunks spaCy knows.

    Captions are parsed one by one, as padding in a batch could change the last bits.
    """

    def __init__(self, model: str) -> None:
        import spacy

        self._nlp = spacy.load(find_model(model), exclude=["ner"])

    def __call__(self, caption: str) -> list[Chunk]:
        """The caption's noun chunks, in their order."""
        with self._nlp.memory_zone():
            return [_chunk(span, caption) for span in self._nlp(_parsable(caption)).noun_chunks]

    def read(self, caption: str, spans: Sequence[Span]) -> list[Chunk]:
        """Parts of a caption, each as the chunk that it would be, in order.

        A chunk lies inside its part; what says which or how many at the part's start is left out.
        """
        with self._nlp.memory_zone():
            doc = self._nlp(_parsable(caption))
            return [_chunk_within(_tokens(doc, span), span, caption) for span in spans]


def _parsable(caption: str) -> str:
    """The caption, character for character, as a parser reads it best.

    Captions all in capitals, which it would take for names, are put in lower case. Words that go on for ever, such as
    rows of emoji, are blanked: spaCy's tokenizer takes time quadratic in their length.
    """
    lower = caption.lower()
    text = lower if caption.isupper() and len(lower) == len(caption) else caption
    return _LONG_WORD.sub(lambda word: " " * len(word[0]), text)


def _tokens(doc: Any, span: Span) -> Any:
    """The tokens that characters belong to; for those of a blank between two, the one before."""
    found = doc.char_span(span.start, span.end, alignment_mode="expand")
    before = max(found.start - 1, 0)
    return found if len(found) else doc[before : before + 1]


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


def _chunk_within(chunk: Any, within: Span, caption: str) -> Chunk:
    """The chunk, of which only a part is meant where the parser's words are longer than the caller's."""
    found = _chunk(chunk, caption)
    span = _overlap(found.subject.span, within) or within
    head_span = _overlap(found.subject.head_span, span) or span
    head = found.subject.head if head_span == found.subject.head_span else head_span.of(caption).lower()
    subject = replace(found.subject, phrase=span.of(caption), span=span, head=head, head_span=head_span)
    return replace(found, subject=subject)


def _overlap(a: Span, b: Span) -> Span | None:
    start, end = max(a.start, b.start), min(a.end, b.end)
    return Span(start=start, end=end) if start < end else None


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


def parser_use(name: str) -> ModelUse:
    """The spaCy pipeline of that name, known by its files, without loading it."""
    return ModelUse(name=name, revision=revision(find_model(name)))
