"""The catalog: every sample and member of a data set, in memory-mapped arrays that are made once on each machine."""

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from training.stream.coalesce import Range

SAMPLE = np.dtype(
    [
        ("offset", "<u8"),  # where its first member's bytes start in the tar
        ("size", "<u4"),  # up to the end of its last member's bytes
        ("width", "<u2"),  # of the target, pixels; 0 where the index doesn't know
        ("height", "<u2"),
        ("member", "<u8"),  # its first member's number in the part
        ("members", "<u2"),
        ("fault", "u1"),  # what is wrong with it by the index alone: an index into FAULTS
        ("key", "<u8"),  # where its key ends in the part's keys; it starts where the one before ends
    ]
)
MEMBER = np.dtype([("name", "<u4"), ("start", "<u4"), ("size", "<u4"), ("crc32", "<u4")])
"""A member: its name's number in the part, where it starts after the sample's ``offset``, its size and checksum."""

FAULTS = ("", "duplicate_key", "duplicate_member", "too_large")
_UNITS_PER_PART = 4096
_LIMIT = 2**32 - 1
_SIDE_LIMIT = 2**16 - 1
_VERSION = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitIndex:
    """One tar's index, ready to be entered.

    Attributes:
        name: The unit's; a data set's units are in the order of their names.
        path: Of the tar, under the data set's root.
        identity: Changes when the file that says what the unit holds does.
        digest: Of the index, hex.
        table: The index, as :data:`manifests.shard.INDEX_SCHEMA`.
    """

    name: str
    path: str
    identity: str
    digest: str
    table: pa.Table


class Entry(Struct, frozen=True, gc=False):
    """Where one sample is: which bytes of which tar, and its members as ``(name, start, size, crc32)``."""

    path: str
    key: str
    offset: int
    size: int
    width: int
    height: int
    fault: str
    members: tuple[tuple[str, int, int, int], ...]

    @property
    def range(self) -> Range:
        """Its bytes in the tar."""
        return Range(self.path, self.offset, self.offset + self.size)


class Part:
    """A folder of the catalog: up to some thousand units, never changed once it is there."""

    def __init__(self, folder: Path) -> None:
        units = pq.read_table(folder / "units.parquet")
        self.folder = folder
        self.units: list[str] = units["name"].to_pylist()
        self.paths: list[str] = units["path"].to_pylist()
        self.identities: list[str] = units["identity"].to_pylist()
        self.digests: list[str] = units["digest"].to_pylist()
        self.firsts = np.concatenate([[0], np.cumsum(units["samples"].to_numpy())])
        self.names: list[str] = json.loads((folder / "names.json").read_text())

    @cached_property
    def samples(self) -> npt.NDArray[np.void]:
        """:data:`SAMPLE` by sample."""
        return _mapped(self.folder / "samples.npy")

    @cached_property
    def members(self) -> npt.NDArray[np.void]:
        """:data:`MEMBER` by member."""
        return _mapped(self.folder / "members.npy")

    @cached_property
    def keys(self) -> npt.NDArray[np.uint8]:
        """The samples' keys, one after another."""
        return _mapped(self.folder / "keys.npy")

    def rows(self, unit: int) -> slice:
        """Where a unit's samples stand in ``samples``."""
        return slice(int(self.firsts[unit]), int(self.firsts[unit + 1]))

    def sizes(self, unit: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
        """Widths and heights of a unit's targets."""
        part = self.samples[self.rows(unit)]
        return part["width"], part["height"]

    def entry(self, unit: int, row: int) -> Entry:
        """A sample of a unit by its place there."""
        number = int(self.firsts[unit]) + row
        offset, size, width, height, first, count, fault, key = self.samples[number].item()
        start = int(self.samples[number - 1]["key"]) if number else 0
        members = self.members[first : first + count].tolist()
        names = self.names
        return Entry(
            path=self.paths[unit],
            key=self.keys[start:key].tobytes().decode(),
            offset=offset,
            size=size,
            width=width,
            height=height,
            fault=FAULTS[fault],
            members=tuple((names[name], start, size, crc) for name, start, size, crc in members),
        )


def _mapped(path: Path) -> npt.NDArray[Any]:
    """A saved array, read page by page as it is used."""
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    return array.view(np.ndarray)


class Catalog:
    """All parts of a data set's catalog on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / f"v{_VERSION}"
        self.parts: list[Part] = []
        self._known: dict[str, tuple[int, int, str]] = {}
        self.reload()

    def reload(self) -> None:
        """Take in parts that were added since."""
        read = {part.folder for part in self.parts}
        for folder in sorted(self.folder.glob("part-*")):
            if folder not in read:
                self._take_in(Part(folder))

    def known(self) -> dict[str, tuple[int, int, str]]:
        """Where each unit is, as ``(part, unit of the part)``, and its identity. A later entry replaces an earlier."""
        return self._known

    def _take_in(self, part: Part) -> None:
        number = len(self.parts)
        self.parts.append(part)
        self._known.update((name, (number, unit, part.identities[unit])) for unit, name in enumerate(part.units))

    def add(self, indices: Iterable[UnitIndex]) -> None:
        """Enter units, some thousand to a part, each part whole or not at all. One process of a machine at a time."""
        for leftover in self.folder.glob(".*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        waiting: list[UnitIndex] = []
        for index in indices:
            waiting.append(index)
            if len(waiting) == _UNITS_PER_PART:
                self._write(waiting)
                waiting = []
        if waiting:
            self._write(waiting)
        self.reload()

    def _write(self, indices: Sequence[UnitIndex]) -> None:
        temporary = self.folder / f".{uuid.uuid4().hex}.tmp"
        temporary.mkdir(parents=True)
        _write_part(temporary, indices)
        temporary.rename(self.folder / f"part-{len(list(self.folder.glob('part-*'))):06d}")


def _write_part(folder: Path, indices: Sequence[UnitIndex]) -> None:
    names: dict[str, int] = {}
    samples, members, keys = [], [], []
    num_members = key_bytes = 0
    for index in indices:
        unit_samples, unit_members, unit_keys = unit_arrays(index.table, names)
        unit_samples["member"] += np.uint64(num_members)
        unit_samples["key"] += np.uint64(key_bytes)
        num_members, key_bytes = num_members + len(unit_members), key_bytes + len(unit_keys)
        samples.append(unit_samples)
        members.append(unit_members)
        keys.append(np.frombuffer(unit_keys, np.uint8))
    save_array(folder / "samples.npy", np.concatenate(samples))
    save_array(folder / "members.npy", np.concatenate(members))
    save_array(folder / "keys.npy", np.concatenate(keys))
    (folder / "names.json").write_text(json.dumps(list(names)))
    columns = {name: [getattr(index, name) for index in indices] for name in ("name", "path", "identity", "digest")}
    pq.write_table(pa.table({**columns, "samples": [len(part) for part in samples]}), folder / "units.parquet")
    for name in ("names.json", "units.parquet"):
        _sync(folder / name)


def save_array(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Write an array so that it is on the disk when this returns."""
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    _sync(path)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def unit_arrays(table: pa.Table, names: dict[str, int]) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void], bytes]:
    """A unit's index as ``(samples, members, keys)``. New members' names are added to ``names``."""
    if not len(table):
        return np.zeros(0, SAMPLE), np.zeros(0, MEMBER), b""
    table = table.combine_chunks()
    keys = table["key"].chunk(0)
    first = np.flatnonzero(np.append(True, pc.not_equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)))
    count = np.diff(first, append=len(table))
    offset, size = table["offset"].to_numpy(), table["size"].to_numpy()
    number = np.repeat(np.arange(len(first)), count)
    members = np.zeros(len(table), MEMBER)
    members["name"] = _name_numbers(table["member"], names)
    start = offset - offset[first][number]
    members["start"], members["size"] = np.minimum(start, _LIMIT), np.minimum(size, _LIMIT)
    members["crc32"] = table["crc32"].to_numpy()
    samples = np.zeros(len(first), SAMPLE)
    samples["offset"] = offset[first]
    length = (start + size)[first + count - 1]
    samples["size"] = np.minimum(length, _LIMIT)
    samples["member"], samples["members"] = first, np.minimum(count, 2**16 - 1)
    samples["width"], samples["height"] = _target_sizes(table, number, len(first))
    texts = keys.take(pa.array(first)).to_pylist()
    samples["fault"] = _faults(texts, number, members["name"], (length > _LIMIT) | (count >= 2**16))
    encoded = [text.encode() for text in texts]
    samples["key"] = np.cumsum([len(text) for text in encoded])
    return samples, members, b"".join(encoded)


def _name_numbers(column: pa.ChunkedArray, names: dict[str, int]) -> npt.NDArray[np.uint32]:
    encoded = column.combine_chunks().dictionary_encode()
    numbers = [names.setdefault(name, len(names)) for name in encoded.dictionary.to_pylist()]
    result: npt.NDArray[np.uint32] = np.asarray(numbers, np.uint32)[encoded.indices.to_numpy()]
    return result


def _target_sizes(
    table: pa.Table, number: npt.NDArray[np.int64], samples: int
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Width and height of each sample's first picture that is no part of something else (no dot in its name)."""
    is_target = pc.and_(pc.is_valid(table["width"]), pc.invert(pc.match_substring(table["member"], ".")))
    rows = np.flatnonzero(is_target.to_numpy())[::-1]  # the last to be written below is the first in the tar
    sides = []
    for side in ("width", "height"):
        result = np.zeros(samples, np.uint16)
        values = pc.fill_null(table[side], 0).to_numpy()
        result[number[rows]] = np.minimum(values[rows], _SIDE_LIMIT)
        sides.append(result)
    return sides[0], sides[1]


def _faults(
    keys: Sequence[str], number: npt.NDArray[np.int64], names: npt.NDArray[np.uint32], is_large: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    faults = np.zeros(len(keys), np.uint8)
    pairs, counts = np.unique(np.stack([number, names.astype(np.int64)]), axis=1, return_counts=True)
    faults[pairs[0][counts > 1]] = FAULTS.index("duplicate_member")
    _, first = np.unique(np.asarray(keys), return_index=True)
    faults[np.setdiff1d(np.arange(len(keys)), first)] = FAULTS.index("duplicate_key")
    faults[is_large] = FAULTS.index("too_large")
    return faults
