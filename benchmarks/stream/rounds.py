"""Loaders as processes that wait their turn, and the rounds in which each does an epoch after the other."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.stream.contenders import Contender
from benchmarks.stream.environments import BuildError
from benchmarks.stream.work import Epoch
from pipeline.ledger import Layout

ROOT = Path(__file__).parents[2]
_TOLERANCE = 0.01
"""By which the pixels of a loader's epoch may differ: streams without end cut epochs at any sample."""


class LoaderError(RuntimeError):
    """A loader failed or did not do the work; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where the data set, what was converted of it, and environments are. ``log`` takes what loaders say."""

    layout: Layout
    converted: Path
    environments: Path
    log: Path


@dataclass(frozen=True, slots=True)
class Loader:
    """A contender's process, which does one epoch whenever told."""

    contender: Contender
    process: subprocess.Popen[str]

    def epoch(self) -> Epoch:
        """Have it do an epoch.

        Raises:
            LoaderError: If it died.
        """
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin and stdout
        try:
            stdin.write("\n")
            stdin.flush()
        except BrokenPipeError:
            raise LoaderError(f"{self.contender.name}: died; see the log") from None
        line = stdout.readline()
        if not line:
            raise LoaderError(f"{self.contender.name}: died; see the log")
        return Epoch(**json.loads(line))


def command(contender: Contender, folders: Folders, *words: str) -> list[str]:
    """The command that runs a contender's module, in its environment, which is built if need be.

    Raises:
        BuildError: If it cannot be built.
    """
    python = contender.environment.python(folders.environments)
    return [str(python), "-m", f"benchmarks.stream.loaders.{contender.module}", *words]


def data_folder(contender: Contender, folders: Folders) -> Path:
    """The data in the form this contender reads, converted at the first time.

    Raises:
        LoaderError: If it cannot be converted.
    """
    run = Path(str(folders.layout.root))
    shards = run / "shards"
    known = {"shards": shards, "run": run}
    if contender.data in known:
        return known[contender.data]
    out = folders.converted / contender.data
    done = folders.converted / f"{contender.data}.done"
    if not done.exists():
        _run(command(contender, folders, "convert", str(shards), str(out)), folders.log)
        done.touch()
    return out


def _run(words: Sequence[str], log: Path) -> None:
    with log.open("a") as file:
        code = subprocess.run(words, cwd=ROOT, stdout=file, stderr=file).returncode  # noqa: S603 (our own words)
    if code:
        raise LoaderError(f"{' '.join(words[2:4])} failed; see {log}")


@contextmanager
def started(contender: Contender, decoder: str, folders: Folders) -> Iterator[Loader]:
    """A contender's process, ready; ended at the end."""
    words = command(contender, folders, "read", str(data_folder(contender, folders)), decoder, *contender.options)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (
        folders.log.open("a") as log,
        subprocess.Popen(  # noqa: S603 (our own words)
            words, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        assert process.stdout
        try:
            if process.stdout.readline() != "ready\n":
                raise LoaderError(f"{contender.name}: did not start; see {folders.log}")
            yield Loader(contender, process)
        finally:
            process.terminate()


def measure(
    contenders: Mapping[str, Contender], decoder: str, folders: Folders, rounds: int
) -> tuple[dict[str, list[Epoch]], list[str]]:
    """Epochs of each contender, in interleaved rounds after one that warms up; and why some are missing."""
    found: dict[str, list[Epoch]] = {}
    missing: list[str] = []
    with ExitStack() as stack:
        loaders: dict[str, Loader] = {}
        for name, contender in contenders.items():
            if decoder not in contender.decoders:
                continue
            try:
                loaders[name] = stack.enter_context(started(contender, decoder, folders))
                loaders[name].epoch()
            except (BuildError, LoaderError) as error:
                loaders.pop(name, None)
                missing.append(str(error))
        for _ in range(rounds):
            for name, loader in loaders.items():
                found.setdefault(name, []).append(loader.epoch())
    _check_work(found)
    return found, missing


def _check_work(found: Mapping[str, Sequence[Epoch]]) -> None:
    """Refuse figures of loaders that did not all do the same."""
    most = max((epoch.pixels / epoch.samples for epochs in found.values() for epoch in epochs), default=0.0)
    for name, epochs in found.items():
        for epoch in epochs:
            if epoch.pixels / epoch.samples < (1 - _TOLERANCE) * most:
                raise LoaderError(f"{name}: {epoch.pixels} bytes of pixels for {epoch.samples} samples, others more")
