"""Plain USTAR tars, as WebDataset reads them: members ``<key>.<name>``, those of one key side by side."""

import hashlib
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa

_BLOCK = 512
_RECORD_SIZE = 10240


@dataclass(frozen=True, slots=True)
class TarMember:
    """A member: its key, its name without key, where its bytes start, and the bytes."""

    key: str
    name: str
    offset: int
    data: bytes


def tar_header(name: str, size: int) -> bytes:
    """The 512-byte USTAR header of a regular file with fixed owner, mode and time.

    Raises:
        ValueError: If the name does not fit USTAR.
    """
    encoded, octal = name.encode(), b"%011o" % size
    if len(encoded) > _NAME or len(octal) > 11:
        return _tarfile_header(name, size)
    checksum = _BLANK_SUM + sum(encoded) + sum(octal) - sum(_BLANK[_SIZE])
    header = bytearray(_BLANK)
    header[: len(encoded)] = encoded
    header[_SIZE] = octal
    header[_CHECKSUM] = b"%06o\0 " % checksum
    return bytes(header)


def _tarfile_header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info.tobuf(format=tarfile.USTAR_FORMAT, encoding="utf-8", errors="strict")


_NAME, _SIZE, _CHECKSUM = 100, slice(124, 135), slice(148, 156)
"""Where a header has these fields; longer names are split in two, which is left to tarfile."""

_BLANK = _tarfile_header("", 0)
_BLANK_SUM = int(_BLANK[_CHECKSUM][:6], 8)


class Digesting:
    """A file that is written from its start, with the number and the SHA-256 of its bytes so far.

    Attributes:
        size: Bytes written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.size = 0
        self._file = file
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Hexadecimal."""
        return self._digest.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)


def lay_out(samples: Iterable[tuple[str, Sequence[tuple[str, bytes]]]]) -> Iterator[TarMember]:
    """Samples ``(key, members)``, each member with the place it has in their tar.

    Raises:
        ValueError: If a key has a dot, which WebDataset readers would split at.
    """
    offset = 0
    for key, members in samples:
        if "." in key:
            raise ValueError(f"key {key!r} has a dot; WebDataset readers split names there")
        for name, data in members:
            offset += _BLOCK
            yield TarMember(key, name, offset, data)
            offset += len(data) + _padding(len(data))


def write_tar(file: BinaryIO, samples: Iterable[tuple[str, Sequence[tuple[str, bytes]]]]) -> str:
    """Write samples as a USTAR tar whose bytes depend on nothing else; the hex SHA-256 of these.

    Raises:
        ValueError: As :func:`lay_out` and :func:`tar_header`.
    """
    tar = Digesting(file)
    for member in lay_out(samples):
        tar.write(tar_header(f"{member.key}.{member.name}", len(member.data)))
        tar.write(member.data)
        tar.write(bytes(_padding(len(member.data))))
    tar.write(tar_end(tar.size))
    return tar.sha256


def _padding(size: int) -> int:
    """Bytes from the end of a member of so many to the next block."""
    return -size % _BLOCK


def tar_end(size: int) -> bytes:
    """What ends a tar after so many bytes of members."""
    return bytes(2 * _BLOCK + -(size + 2 * _BLOCK) % _RECORD_SIZE)


def tar_spans(index: pa.Table) -> list[tuple[int, int]]:
    """Where each sample of a tar of ours lies, ``[start, stop)`` in bytes with its headers, in order.

    Raises:
        ValueError: If samples and headers leave gaps: another's tar.
    """
    keys, offsets, sizes = (index[name].to_pylist() for name in ("key", "offset", "size"))
    stops = [offset + size + _padding(size) for offset, size in zip(offsets, sizes, strict=True)]
    starts = [offset - _BLOCK for offset in offsets]
    if starts != [0, *stops[:-1]][: len(starts)]:
        raise ValueError("its members do not follow each other with one header each")
    if not keys:
        return []
    firsts = [place for place, key in enumerate(keys) if not place or key != keys[place - 1]]
    return [
        (starts[first], stops[following - 1]) for first, following in zip(firsts, [*firsts[1:], len(keys)], strict=True)
    ]


def read_tar(file: BinaryIO) -> Iterator[TarMember]:
    """The regular files of a plain tar, from its start, in order.

    Raises:
        tarfile.ReadError: If the tar is truncated or damaged.
    """
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            if info.isfile():
                stream = tar.extractfile(info)
                assert stream is not None
                data = stream.read()
                if len(data) != info.size:
                    raise tarfile.ReadError(f"{info.name}: {len(data)} of {info.size} bytes, the tar is truncated")
                key, _, name = info.name.partition(".")
                yield TarMember(key, name, info.offset_data, data)


def read_samples(file: BinaryIO) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of a tar: adjacent members of one key, by name."""
    current: str | None = None
    members: dict[str, bytes] = {}
    for member in read_tar(file):
        if member.key != current and current is not None:
            yield current, members
            members = {}
        current = member.key
        members[member.name] = member.data
    if current is not None:
        yield current, members
