import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import Span
from stages.parser import SpacyParser, find_model, revision

BUNDLED = find_model("en_caption")


@pytest.fixture(scope="module")
def parser() -> SpacyParser:
    return SpacyParser("en_caption")


@pytest.mark.parametrize(
    ("caption", "part", "phrase", "head", "is_plural"),
    [
        ("A man rides a big brown dog", "a big brown dog", "big brown dog", "dog", False),
        ("two dogs sit on the grass", "two dogs", "dogs", "dog", True),
        ("a man with three red balloons", "red balloons", "red balloons", "balloon", True),
        ("a cup of hot coffee on a table", "cup of hot coffee", "cup of hot coffee", "cup", False),
        ("the woman's dog", "dog", "dog", "dog", False),
        ("a two-story house", "two-story house", "two-story house", "house", False),
        ("A BIG DOG", "DOG", "DOG", "dog", False),
        ("一只狗在公園", "狗", "狗", "狗", False),
    ],
)
def test_a_part_of_a_caption_has_a_head_and_a_number(
    parser: SpacyParser, caption: str, part: str, phrase: str, head: str, is_plural: bool
) -> None:
    start = caption.index(part)
    (chunk,) = parser.read(caption, [Span(start=start, end=start + len(part))])
    assert (chunk.subject.phrase, chunk.subject.head, chunk.subject.is_plural) == (phrase, head, is_plural)


def test_what_is_no_noun_or_not_there_is_said(parser: SpacyParser) -> None:
    caption = "He rides without a hat"
    he, hat = parser.read(caption, [Span(start=0, end=2), Span(start=19, end=22)])
    assert (he.is_noun, he.is_absent) == (False, False)
    assert (hat.is_noun, hat.is_absent) == (True, True)


@given(caption=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_chunk_lies_inside_its_part_in_any_text(parser: SpacyParser, caption: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(caption) - 1))
    part = Span(start=start, end=data.draw(st.integers(start + 1, len(caption))))
    (chunk,) = parser.read(caption, [part])
    subject = chunk.subject
    assert part.start <= subject.span.start and subject.span.end <= part.end
    assert subject.span.start <= subject.head_span.start and subject.head_span.end <= subject.span.end
    assert subject.phrase == subject.span.of(caption) and subject.head == subject.head.lower()


def test_the_bundled_model_carries_its_licence() -> None:
    assert {"LICENSE", "NOTICE", "README.md"} <= {path.name for path in BUNDLED.iterdir()}
    assert json.loads((BUNDLED / "meta.json").read_text())["license"] == "CC BY-SA 4.0"


def copy_of_bundled(folder: Path) -> Path:
    return Path(shutil.copytree(BUNDLED, folder))


def test_the_revision_tells_weights_apart_and_not_their_papers(tmp_path: Path) -> None:
    same, other = copy_of_bundled(tmp_path / "same"), copy_of_bundled(tmp_path / "other")
    (same / "README.md").write_text("another text")
    (other / "parser" / "model").write_bytes(b"other weights")
    assert revision(same) == revision(BUNDLED)
    assert revision(other) != revision(BUNDLED)


def test_a_model_may_be_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "en_packaged_sm"
    data = copy_of_bundled(package / "en_packaged_sm-1.0.0")
    shutil.copy(data / "meta.json", package)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_model("en_packaged_sm") == data


def test_a_missing_model_is_told() -> None:
    with pytest.raises(ValueError, match="no spaCy model 'nowhere/model'"):
        find_model("nowhere/model")


def test_a_model_without_a_parser_is_refused(tmp_path: Path) -> None:
    folder = copy_of_bundled(tmp_path / "tagger")
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "pipeline": ["tok2vec", "tagger"]}))
    with pytest.raises(ValueError, match="has no parser"):
        find_model(str(folder))
