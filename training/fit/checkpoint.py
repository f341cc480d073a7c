"""Checkpoints: safetensors, each rank its shards, written beside the training and committed whole or not at all.

A checkpoint is a folder ``step_00001000``: safetensors with the places of their shards, ``notes.json`` with all that is
no tensor, and, written last, ``COMMIT``, which lists the files with their sizes and checksums. A folder without it, or
whose files are not of these sizes, is none; one whose checksums differ is refused where it is read.
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from manifests.files import sync_folder, write_atomically
from training.fit.checksums import DamagedError, SummedFiles, collect, verify
from training.fit.skip import Skips
from training.plain import NewerError
from training.stream.world import World

VERSION = 1
_COMMIT, _NOTES = "COMMIT", "notes.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What a checkpoint holds besides tensors.

    Attributes:
        family: Type of the family's configuration.
        step: Global batches that were gone through.
        skips: Steps that were not taken.
        stream: State of the stream, which has the data's fingerprint.
        versions: Of the packages that it was computed with, by name.
    """

    family: str
    step: int
    skips: Skips
    stream: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of a run, as it writes them; every rank makes the same calls.

    Args:
        folder: That holds them.
        keep: How many are kept, the newest.
        world: Ranks that write.
    """

    def __init__(self, folder: Path, keep: int, world: World) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.folder, self.keep, self.world = folder, keep, world
        self.group = dist.new_group(backend="gloo")  # its own, as a thread speaks in it beside the training
        self.pending: tuple[Path, Future[Any]] | None = None
        if world.rank == 0:
            _clean(folder)
        dist.barrier(self.group)

    def newest(self) -> Path | None:
        """The newest that is whole."""
        found = committed(self.folder)
        return self.world.group.share(found[-1] if found else None)

    def save(self, tensors: Mapping[str, Tensor], notes: Notes) -> None:
        """Copy tensors, whole or sharded, and begin to write them; waits for the one before."""
        self.settle(wait=True)
        path = self.folder / f"step_{notes.step:08d}"
        if (path / _COMMIT).exists():
            return
        path.mkdir(parents=True, exist_ok=True)
        writer = HuggingFaceStorageWriter(str(path), save_distributed=True)
        writer.fs = SummedFiles()
        future = async_save(dict(tensors), storage_writer=writer, process_group=self.group)
        if self.world.rank == 0:
            write_atomically(path / _NOTES, json.dumps({"version": VERSION, **asdict(notes)}).encode())
        self.pending = path, cast("Future[Any]", future)

    def settle(self, wait: bool = False) -> None:
        """Commit what has been written meanwhile, and forget the oldest.

        Raises:
            OSError: If a rank could not write, such as to a disk that is full; on every rank.
        """
        if self.pending is None or not (wait or self.pending[1].done()):
            return
        path, future = self.pending
        _await_written(path, future)
        self.pending = None
        if self.world.rank == 0:
            _commit(path)
            for old in committed(self.folder)[: -self.keep]:
                _remove(old)

    def finish(self) -> None:
        """Wait until all is committed."""
        self.settle(wait=True)
        dist.barrier(self.group)


def _await_written(path: Path, future: Future[Any]) -> None:
    try:
        future.result()
    except CheckpointException as error:  # what any rank raised, on all of them; no Exception
        reasons = [reason for reason, _ in error.failures.values() if isinstance(reason, OSError)]
        if not reasons:
            raise
        raise OSError(f"{path} can't be written: {reasons[0]}; mend that, and --resume goes on") from error


def committed(folder: Path) -> list[Path]:
    """Checkpoints that are whole, oldest first."""
    return sorted(path for path in folder.glob("step_*") if _is_whole(path))


def check(path: Path, world: World | None = None) -> None:
    """See that a checkpoint's files are what was written; ``world``: ranks that make this call, and share the reading.

    Raises:
        DamagedError: If not; it names the newest older one that is whole, and how to take it.
    """
    try:
        verify(path, _sums(path), world)
    except DamagedError as error:
        raise DamagedError(error.path, error.files, _remedy(path, world)) from None


def _remedy(path: Path, world: World | None) -> str:
    for older in reversed([each for each in committed(path.parent) if each.name < path.name]):
        try:
            verify(older, _sums(older), world)
        except DamagedError:
            continue
        step = int(older.name.removeprefix("step_"))
        return (
            f"; {older.name} is whole: `rm -r {path}`, and --resume goes on from it; "
            f"generate and export take --step {step}"
        )
    return "; there is no older one that is whole: begin anew"


def digest(path: Path) -> str:
    """A short hash of what a checkpoint's files are, by their names, sizes and checksums."""
    return hashlib.sha256((path / _COMMIT).read_bytes()).hexdigest()[:16]


def _sums(path: Path) -> dict[str, int] | None:
    return _read_commit(path).get("crc32")


def read_notes(path: Path, family: str) -> Notes:
    """The notes of a checkpoint of a family.

    Raises:
        NewerError: If a newer Inlay wrote it.
        ValueError: If it is of another family.
    """
    plain = json.loads((path / _NOTES).read_text())
    if plain.pop("version") != VERSION:
        raise NewerError(f"{path}: written by a newer Inlay, in a layout not known here (version {VERSION} is); use it")
    if plain["family"] != family:
        raise ValueError(f"{path}: a checkpoint of {plain['family']}, but the recipe trains {family}; take its recipe")
    return Notes(**{**plain, "skips": Skips(**plain["skips"])})


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a checkpoint, by name."""
    found = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    return {name: tuple(cast(Any, entry).size) for name, entry in found.items()}


def read_tensors(path: Path, into: Mapping[str, Tensor]) -> None:
    """Fill tensors, whole or sharded in any way, from those of the same names.

    Raises:
        ValueError: If one is not there, or in another shape.
    """
    held = shapes_in(path)
    for name, tensor in into.items():
        if held.get(name) != tuple(tensor.shape):
            raise ValueError(f"{path}: {name} is {held.get(name, 'absent')}, not {tuple(tensor.shape)} as wanted here")
    with _unalarmed():
        load(dict(into), storage_reader=HuggingFaceStorageReader(str(path)))


@contextmanager
def _unalarmed() -> Iterator[None]:
    """Reading alone is no mistake."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        yield


def _is_whole(path: Path) -> bool:
    try:
        sizes = _read_commit(path)["files"]
    except (FileNotFoundError, NotADirectoryError):
        return False
    return sizes == _sizes(path)


def _read_commit(path: Path) -> dict[str, dict[str, int]]:
    text = (path / _COMMIT).read_text()
    try:
        commit: dict[str, dict[str, int]] = json.loads(text)
    except ValueError:
        raise DamagedError(path, [_COMMIT], f"; `rm -r {path}` removes it, and an older one is taken") from None
    return commit


def _sizes(path: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(path.iterdir()) if not file.name.startswith(_COMMIT)}


def _commit(path: Path) -> None:
    sums = collect(path)
    sync_folder(path)
    write_atomically(path / _COMMIT, json.dumps({"files": _sizes(path), "crc32": sums}).encode())
    sync_folder(path.parent)


def _clean(folder: Path) -> None:
    """Remove what was never committed, or is damaged."""
    for path in folder.glob("step_*"):
        if not _is_whole(path):
            _remove(path)


def _remove(path: Path) -> None:
    (path / _COMMIT).unlink(missing_ok=True)  # first, so that half of a checkpoint is none
    shutil.rmtree(path)
