"""Pictures yet to be drawn: a list of contents and a list of styles become prompts, each content in several styles.

A row is a pure function of the two lists, the seed and its number, so any unit can be read anywhere, in any order.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from manifests import dag
from manifests.record import Row, Synthesis
from pipeline.sources.base import Part, Source, SourceError, Unit
from pipeline.sources.paths import absolute
from pipeline.sources.rows import changed, make_row
from stages.base import record_rng


class Prompts(Source):
    """Contents times styles; its one part is the list of contents."""

    gives = frozenset({"source_id", "alt_text", "synthesis"})

    def __init__(self, config: dag.PromptsSource) -> None:
        self._config = config
        self._paths = str(absolute(config.contents)), str(absolute(config.styles))
        contents, styles = map(read_list, self._paths)
        if config.styles_per_content > len(styles):
            raise SourceError(
                f"{config.styles}: {len(styles)} styles, but styles_per_content is {config.styles_per_content}; "
                "lower it or add styles"
            )
        rows = len(contents) * config.styles_per_content
        self.parts = (Part(config.contents, rows, self._digest(contents, styles)),)

    def read(self, unit: Unit) -> list[Row]:
        """The unit's rows; the seed decides which styles a content meets, and the noise each picture starts from.

        Raises:
            SourceError: If a list has changed since the run was planned.
        """
        contents, styles = _read_once(*self._paths, self.parts[0].digest)
        if self._digest(contents, styles) != self.parts[0].digest:
            raise changed(absolute(self._paths[0]))
        return [self._row(row, contents, styles) for row in range(unit.start, unit.stop)]

    def _row(self, row: int, contents: tuple[str, ...], styles: tuple[str, ...]) -> Row:
        number, turn = divmod(row, self._config.styles_per_content)
        style = self._styles_of(number, len(styles))[turn]
        synthesis = self._synthesis(row, contents[number], styles[style])
        made = make_row(self.parts[0], row, {"source_id": f"{number}-{style}", "alt_text": synthesis.prompt})
        return replace(made, record=replace(made.record, synthesis=synthesis))

    def _styles_of(self, content: int, styles: int) -> list[int]:
        """The different styles that a content meets."""
        return record_rng(self._config.seed, str(content), "styles").sample(
            range(styles), self._config.styles_per_content
        )

    def _synthesis(self, row: int, content: str, style: str) -> Synthesis:
        before, _, after = self._config.template.partition("{content}")
        prompt = before.replace("{style}", style) + content + after.replace("{style}", style)
        seed = record_rng(self._config.seed, str(row), "noise").getrandbits(32)
        return Synthesis(prompt=prompt, content=content, style=style, seed=seed)

    def _digest(self, contents: tuple[str, ...], styles: tuple[str, ...]) -> str:
        """Of all that decides the rows."""
        settings = self._config.seed, self._config.styles_per_content, self._config.template
        return hashlib.sha256(json.dumps([settings, contents, styles]).encode()).hexdigest()


@lru_cache(maxsize=1)
def _read_once(contents: str, styles: str, digest: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Both lists, kept for the next unit."""
    return read_list(contents), read_list(styles)


def read_list(path: str) -> tuple[str, ...]:
    """The texts of a file, in order: a line each, or by the suffix ``.jsonl`` each line's ``text``; no blank ones.

    Raises:
        SourceError: If it cannot be read, is empty, is not UTF-8, or says something twice, naming the line.
    """
    seen: dict[str, int] = {}
    for number, text in _texts(path):
        if text in seen:
            raise SourceError(f"{path}:{number}: {text!r:.80} stands in line {seen[text]} already; keep one")
        seen[text] = number
    if not seen:
        raise SourceError(f"{path}: no text in it; write one a line")
    return tuple(seen)


def _texts(path: str) -> Iterator[tuple[int, str]]:
    """The number of each line, from 1, and its text with single spaces."""
    try:
        data = absolute(path).read_bytes()
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be read: {error.strerror or error}; give a file with a text a line"
        ) from None
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            text = line.decode()
            text = text if not path.endswith(".jsonl") or not text.strip() else _json_text(text)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path}:{number}: {error}") from None
        if text.strip():
            yield number, " ".join(text.split())


def _json_text(line: str) -> str:
    plain = json.loads(line)
    text = plain.get("text") if isinstance(plain, dict) else None
    if not isinstance(text, str):
        raise ValueError(f'a line is {{"text": TEXT}}, got {line[:80]!r}')
    text.encode()  # refuses lone surrogates
    return text
