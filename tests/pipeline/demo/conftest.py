"""The demo's table and its files, made once."""

from pathlib import Path

import pytest

from pipeline.demo import rows
from pipeline.demo.entry import Entry

PORT = 8641


@pytest.fixture(scope="session")
def table() -> list[Entry]:
    return rows.entries()


@pytest.fixture(scope="session")
def built(table: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "entries", lambda: table)  # encoding all pictures once more takes seconds
        rows.build(folder, PORT)
    return folder
