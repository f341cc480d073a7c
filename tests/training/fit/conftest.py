"""The data that all runs of the toy learn from."""

from pathlib import Path

import pytest

from tests.training.fit.toy import write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("fit"))
