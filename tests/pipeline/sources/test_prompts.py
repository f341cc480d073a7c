"""Prompts of contents times styles."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from manifests.dag import PromptsSource, parse_manifest
from pipeline.sources import open_source
from pipeline.sources.base import SourceError, Unit
from pipeline.sources.prompts import Prompts, read_list
from tests.pipeline.sources.reading import read_all, records

CONTENTS, STYLES = ["a cat", "ein Hund", "一只鸟"], ["oil painting", "photo", "pixel art", "watercolour"]


@pytest.fixture(autouse=True)
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write("contents.txt", CONTENTS)
    write("styles.txt", STYLES)
    return tmp_path


def write(name: str, lines: list[str]) -> None:
    Path(name).write_text("\n".join(lines), encoding="utf-8")


def opened(**settings: Any) -> Prompts:
    plain = {"kind": "prompts", "contents": "contents.txt", "styles": "styles.txt", "styles_per_content": 2} | settings
    return Prompts(PromptsSource(**plain))


def test_rows_are_prompts_with_what_they_are_made_of() -> None:
    found = records(read_all(opened()))
    assert len(found) == 6 and opened().gives == {"source_id", "alt_text", "synthesis"}
    for record in found:
        assert record.synthesis and record.alt_text == record.synthesis.prompt
        assert record.synthesis.prompt == f"{record.synthesis.content}, {record.synthesis.style}"
        content, style = map(int, (record.source_id or "").split("-"))
        assert (CONTENTS[content], STYLES[style]) == (record.synthesis.content, record.synthesis.style)
        assert record.source == "contents.txt" and record.url is None
    assert [record.synthesis.content for record in found if record.synthesis] == [c for c in CONTENTS for _ in "ab"]


texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=12)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_each_content_meets_so_many_different_styles(data: st.DataObject) -> None:
    contents, styles = (data.draw(st.lists(texts, min_size=1, max_size=6, unique=True)) for _ in "ab")
    each, seed = data.draw(st.integers(1, len(styles))), data.draw(st.integers(0, 2**63 - 1))
    write("contents.txt", contents)
    write("styles.txt", styles)
    found = [record.synthesis for record in records(read_all(opened(styles_per_content=each, seed=seed)))]
    pairs = Counter((one.content, one.style) for one in found if one)
    assert set(pairs.values()) == {1} and len(pairs) == len(contents) * each
    assert Counter(content for content, _ in pairs) == dict.fromkeys(contents, each)
    assert {style for _, style in pairs} <= set(styles)


@given(st.integers(0, 5), st.integers(1, 6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
def test_any_stretch_is_read_alone(start: int, size: int) -> None:
    source = opened()
    stop = min(6, start + size)
    assert source.read(Unit(0, 0, start, stop)) == source.read(Unit(0, 0, 0, 6))[start:stop]


def test_the_seed_decides_styles_and_noise_and_longer_lists_keep_what_was() -> None:
    first, same, other = (records(read_all(opened(seed=seed))) for seed in (1, 1, 2))
    assert first == same
    assert {r.synthesis.seed for r in first if r.synthesis}.isdisjoint({r.synthesis.seed for r in other if r.synthesis})
    assert len({record.synthesis.seed for record in first if record.synthesis}) == len(first)
    assert opened(seed=1).fingerprint != opened(seed=2).fingerprint
    write("contents.txt", [*CONTENTS, "one more"])
    assert [r.synthesis for r in records(read_all(opened(seed=1)))][:6] == [r.synthesis for r in first]


def test_styles_are_used_about_equally_often() -> None:
    write("contents.txt", [f"content {number}" for number in range(400)])
    used = Counter(record.synthesis.style for record in records(read_all(opened(), 500)) if record.synthesis)
    assert all(abs(used[style] - 200) < 60 for style in STYLES)  # six standard deviations


def test_a_template_says_how_they_are_put_together() -> None:
    write("contents.txt", ["a {style} of {content}"])  # no placeholder of ours
    (record, _) = records(read_all(opened(template="{style}: {content}!")))
    assert record.synthesis and record.alt_text == f"{record.synthesis.style}: a {{style}} of {{content}}!"
    for template in ("{content}", "{style} {style} {content}", ""):
        with pytest.raises(ValidationError, match="once each"):
            PromptsSource(kind="prompts", contents="a", styles="b", template=template)


def test_lists_may_be_jsonl_and_have_blank_lines() -> None:
    lines = [json.dumps({"text": text, "more": 1}) for text in CONTENTS]
    write("contents.jsonl", [lines[0], "", *lines[1:], " "])
    assert read_list("contents.jsonl") == tuple(CONTENTS)
    Path("windows.txt").write_bytes("\ufeffa  cat\r\n\r\n  a dog \r\n".encode())
    assert read_list("windows.txt") == ("a cat", "a dog")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", b"", "x.txt: no text in it"),
        ("x.txt", b" \n\n", "x.txt: no text in it"),
        ("x.txt", b"a\nb\n a \n", "x.txt:3: 'a' stands in line 1 already"),
        ("x.txt", b"a\n\xff\xfe\n", "x.txt:2: 'utf-8' codec"),
        ("x.jsonl", b'{"text": "a"}\n{"text": 3}\n', "x.jsonl:2: a line is"),
        ("x.jsonl", b'"a"\n', "x.jsonl:1: a line is"),
        ("x.jsonl", b'{"text": "a"\n', "x.jsonl:1: Expecting"),
        ("x.jsonl", b'{"text": "\\ud800"}\n', "x.jsonl:1: 'utf-8' codec"),
        ("x.jsonl", b"[" * 100_000, "x.jsonl:1: "),
    ],
)
def test_a_list_that_cannot_be_used_is_told_with_its_line(name: str, content: bytes, message: str) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(SourceError) as error:
        read_list(name)
    assert message in str(error.value)


def test_missing_lists_and_too_few_styles_are_told() -> None:
    with pytest.raises(SourceError, match=r"none\.txt: cannot be read"):
        opened(styles="none.txt")
    with pytest.raises(SourceError, match="4 styles, but styles_per_content is 5"):
        opened(styles_per_content=5)


def test_a_list_that_changes_during_a_run_stops_it() -> None:
    source = opened()
    write("styles.txt", [*STYLES[:3], "another"])
    with pytest.raises(SourceError, match="has changed since the run was planned"):
        source.read(Unit(0, 0, 0, 1))


def test_a_manifest_may_name_it() -> None:
    text = """
name: drawn
source: {kind: prompts, contents: contents.txt, styles: styles.txt, styles_per_content: 3}
nodes: [{id: draw, stage: draw}]
"""
    source = open_source(parse_manifest(text, "drawn.yaml").manifest.source)
    assert source.parts[0].rows == 9
