"""Lists of contents and styles: what is asked of a chat model, and what is taken from its replies."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.lists import Ask, Kind, ListError, ListRequest, gather, parse, write_list
from pipeline.sources.prompts import read_list
from stages.base import ModelRef


def request(count: int = 5, **settings: object) -> ListRequest:
    return ListRequest(kind=Kind.CONTENTS, count=count, **settings)  # type: ignore[arg-type]


def numbered(*texts: str) -> str:
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))


def test_numbered_lines_are_texts_and_all_else_is_none() -> None:
    reply = """Sure! Here is your list:

1. A cat on a roof.
 2)  "two   dogs"
3: **An old man**, fishing
4.
5. 
6. .
7. a boat .
- a dash
10. ’a lighthouse’
2024 was a good year
Let me know if you need more!"""
    assert list(parse(reply)) == ["A cat on a roof", "two dogs", "An old man, fishing", "a boat", "a lighthouse"]
    assert list(parse(f"1. {'x' * 201}\n2. {'y' * 200}")) == ["y" * 200]
    assert list(parse("")) == []


@given(st.text())
def test_whatever_a_model_says_gives_lines_that_can_be_read_back(reply: str) -> None:
    for text in [*parse(reply), *parse(f"1. {reply}")]:
        assert text == " ".join(text.split()) and 0 < len(text) <= 200 and "\n" not in text


def test_texts_are_gathered_until_there_are_enough_each_once() -> None:
    replies = [numbered("a cat", "A CAT", "a dog"), numbered("a dog", "a bird"), "no list", numbered("x", "y", "z")]
    seeds: list[int] = []

    def ask(wording: str, seed: int) -> str:
        seeds.append(seed)
        return replies[len(seeds) - 1]

    assert gather(request(), ask) == ["a cat", "a dog", "a bird", "x", "y"]
    assert len(set(seeds)) == 4


def test_a_list_hangs_on_its_seed_alone() -> None:
    ask: Ask = lambda wording, seed: numbered(*(f"text {(seed + n) % 10**6}" for n in range(7)))  # noqa: E731
    assert gather(request(20, seed=3), ask) == gather(request(20, seed=3), ask) != gather(request(20, seed=4), ask)
    assert gather(request(9, seed=3), ask) == gather(request(20, seed=3), ask)[:9]


def test_examples_are_shown_and_not_repeated() -> None:
    asked: list[str] = []

    def ask(wording: str, seed: int) -> str:
        asked.append(wording)
        return numbered("Example 3", f"new {len(asked)}")

    found = gather(request(3, examples=tuple(f"example {n}" for n in range(30))), ask)
    assert found == ["new 1", "new 2", "new 3"]
    assert all(wording.count("- example") == 8 for wording in asked) and len(set(asked)) == 3


def test_a_model_that_repeats_itself_is_given_up() -> None:
    with pytest.raises(ListError, match=r"wrote 1 of 5 contents, then nothing new in 5 replies.*--about"):
        gather(request(), lambda wording, seed: numbered("a cat"))


def test_the_command_tells_what_is_wrong(tmp_path: Path) -> None:
    out, runner = tmp_path / "contents.txt", CliRunner()
    command = ["prompts", "--model", str(tmp_path / "none"), "--out", str(out), "--kind", "contents", "--count", "3"]
    result = runner.invoke(app, command)
    assert result.exit_code == 2 and "no model" in result.stderr and not out.exists()
    out.write_text("a\n")
    result = runner.invoke(app, command)
    assert result.exit_code == 2 and "is there already" in result.stderr and out.read_text() == "a\n"
    result = runner.invoke(app, [*command[:-1], "0"])
    assert result.exit_code == 2


def test_a_written_list_is_what_the_source_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import stages.models.chat

    monkeypatch.setattr(
        stages.models.chat, "load_chat", lambda *_: lambda wording, seed: numbered("猫", "a  dog", "bird")
    )
    write_list(request(3), ModelRef(name="told"), "cpu", tmp_path / "new" / "contents.txt")
    assert read_list(str(tmp_path / "new" / "contents.txt")) == ("猫", "a dog", "bird")
