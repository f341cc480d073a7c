"""The demo's table and its files, made once."""

from pathlib import Path

import pytest

from pipeline.demo.entry import Entry
from pipeline.demo.rows import build, entries

PORT = 8641


@pytest.fixture(scope="session")
def table() -> list[Entry]:
    return entries()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    build(folder, PORT)
    return folder
