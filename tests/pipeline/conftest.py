"""Toy stages and a toy source for the engine's own tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipeline.run
from pipeline.run import Prepared, prepare
from stages import STAGES
from tests.pipeline.toys import TOYS, Numbers, manifest


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the toy stages known."""
    for name, stage in TOYS.items():
        monkeypatch.setitem(STAGES, name, stage)


@pytest.fixture
def prepared(toys: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Prepared]:
    """Prepare a toy run: rows of each part, parameters of ``paint``, further settings."""

    def prepare_toy(*rows: int, limit: int | None = None, **settings: Any) -> Prepared:
        monkeypatch.setattr(pipeline.run, "open_source", lambda source: Numbers(*rows))
        return prepare(manifest(**settings), limit)

    return prepare_toy


@pytest.fixture
def shard_sums() -> Callable[[Path], dict[str, str]]:
    """SHA-256 of every file whose bytes must not depend on how a run went."""
    import hashlib

    def sums(out: Path) -> dict[str, str]:
        files = sorted([*out.glob("shards/*"), *out.glob("rejects/*")])
        return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return sums
