"""Samples as rows of fixed columns, for formats that know no optional ones."""

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

COLUMNS = ("jpg", "subject0.jpg", "subject1.jpg", "subject2.jpg", "json")
"""Every member that a sample of the data set may have."""


def read_shards(folder: Path) -> Iterator[dict[str, bytes]]:
    """The samples of a folder's tars, by member."""
    for path in sorted(folder.glob("*.tar")):
        key, members = "", dict[str, bytes]()
        with tarfile.open(path) as tar:
            for info in tar:
                found, _, name = info.name.partition(".")
                if found != key and members:
                    yield members
                    members = {}
                file = tar.extractfile(info)
                assert file
                key, members[name] = found, file.read()
        yield members


def as_columns(sample: Mapping[str, bytes]) -> dict[str, bytes]:
    """Every column; empty where the sample has no such member."""
    return {name: sample.get(name, b"") for name in COLUMNS}


def as_members(row: Mapping[str, bytes]) -> dict[str, bytes]:
    """The members that are there."""
    return {name: data for name, data in row.items() if data}
