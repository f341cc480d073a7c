"""Checksums of a checkpoint's files: taken while they are written, and compared before anything in them is used."""

import io
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from torch.distributed.checkpoint.filesystem import FileSystem
from zlib_ng import zlib_ng

from training.stream.world import World

_BESIDE = ".crc32"
_CHUNK = 8 << 20


class DamagedError(ValueError):
    """A checkpoint whose files are not what was written.

    Attributes:
        path: Of the checkpoint.
        files: Names of those files.
    """

    def __init__(self, path: Path, files: Sequence[str], remedy: str = "") -> None:
        super().__init__(f"{path / files[0]} is damaged: its checksum is not that of what was written{remedy}")
        self.path, self.files, self._remedy = path, tuple(files), remedy

    def __reduce__(self) -> tuple[type["DamagedError"], tuple[Path, tuple[str, ...], str]]:
        """As what one rank finds is told to the others."""
        return DamagedError, (self.path, self.files, self._remedy)


class SummedFiles(FileSystem):
    """Files of a checkpoint, each of which gets its checksum beside it when it is closed."""

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Generator[io.IOBase, None, None]:
        """A file to write."""
        file = _Summed(io.FileIO(path, mode))
        with file:
            yield cast(io.IOBase, file)
        _beside(Path(path)).write_text(str(file.crc32))


class _Summed(io.BufferedWriter):
    crc32 = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.crc32 = zlib_ng.crc32(data, self.crc32)
        return super().write(data)


def collect(path: Path) -> dict[str, int]:
    """The checksums of a checkpoint's files, by name; what lay beside them is gone then."""
    sums = {}
    for file in sorted(path.iterdir()):
        if file.suffix != _BESIDE:
            beside = _beside(file)
            sums[file.name] = int(beside.read_text()) if beside.exists() else crc32_of(file)
            beside.unlink(missing_ok=True)
    return sums


def verify(path: Path, sums: Mapping[str, int] | None, world: World | None = None) -> None:
    """See that a checkpoint's files are what was written; each rank reads some of them, and all know.

    Args:
        path: Of the checkpoint.
        sums: Of its files by name; ``None``: it is of before there were any, which is told.
        world: Ranks that make this call; ``None``: this process alone.

    Raises:
        DamagedError: If one is not; on every rank.
    """
    world = world or World()
    if sums is None:
        if world.rank == 0:
            print(f"{path} was written without checksums: its files can't be checked", file=sys.stderr)
        return
    own = sorted(sums)[world.rank :: world.size]
    found = world.group.gather([name for name in own if crc32_of(path / name) != sums[name]])
    if damaged := sorted(name for names in found for name in names):
        raise DamagedError(path, damaged)


def crc32_of(file: Path) -> int:
    """The checksum of a file, read in chunks."""
    crc = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            crc = zlib_ng.crc32(chunk, crc)
    return crc


def _beside(file: Path) -> Path:
    return file.with_name(file.name + _BESIDE)
