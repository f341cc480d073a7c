"""The table of sources."""

import pytest

from manifests.dag import SOURCES as MODELS
from manifests.dag import ParquetSource
from pipeline.sources import SOURCES, open_source
from pipeline.sources.base import SourceError


def test_every_kind_a_manifest_may_name_has_a_source() -> None:
    assert SOURCES.keys() == MODELS.keys()


def test_a_source_is_opened_by_its_kind() -> None:
    with pytest.raises(SourceError, match=r"none\.parquet: matches no file"):
        open_source(ParquetSource(kind="parquet", paths=["none.parquet"]))
