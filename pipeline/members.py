"""Members of committed shards, found by the index: only those that are asked for are read, neighbours in one go."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from zlib_ng import zlib_ng

from manifests.files import AnyPath
from manifests.shard import read_index

_GAP = 64 * 1024
"""Bytes that are rather read than jumped over."""


class MemberError(ValueError):
    """A shard that is not what its index says."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a shard: its place in the tar, its checksum and, of a picture, its size in pixels."""

    key: str
    name: str
    offset: int
    size: int
    crc32: int
    width: int | None
    height: int | None


def list_members(index: AnyPath, is_wanted: Callable[[str], bool] = lambda name: True) -> list[Member]:
    """The members of a shard whose names without key are wanted, in tar order.

    Raises:
        SchemaVersionError: If a newer Inlay wrote it.
        OSError: If it cannot be read.
    """
    columns = [column.to_pylist() for column in read_index(index).columns[:7]]
    return [Member(*row) for row in zip(*columns, strict=True) if is_wanted(row[1])]


def read_members(tar: AnyPath, members: Sequence[Member]) -> Iterator[tuple[Member, bytes]]:
    """Members of one shard with their bytes, in tar order.

    Raises:
        MemberError: If bytes are missing or differ from their checksum.
        OSError: If the shard cannot be read.
    """
    with tar.open("rb") as file:
        for run in _runs(sorted(members, key=lambda member: member.offset)):
            start = run[0].offset
            file.seek(start)
            data = file.read(run[-1].offset + run[-1].size - start)
            for member in run:
                part = data[member.offset - start : member.offset - start + member.size]
                if len(part) != member.size or zlib_ng.crc32(part) != member.crc32:
                    raise MemberError(f"{tar}: {member.key}.{member.name} is not what the index says; verify the run")
                yield member, part


def _runs(members: Sequence[Member]) -> Iterator[list[Member]]:
    run: list[Member] = []
    for member in members:
        if run and member.offset - (run[-1].offset + run[-1].size) > _GAP:
            yield run
            run = []
        run.append(member)
    if run:
        yield run
