"""Reader processes: the same batches as threads make; and they end with the process they read for, however it does."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.training.stream.runs import write_run
from tests.training.stream.test_corruption import bytes_changed, flip
from tests.training.stream.worker import open_stream
from training.stream.collate import Batch, batch_crc
from training.stream.example import Example
from training.stream.geometry import Framing
from training.stream.keyed import Draws
from training.stream.options import StreamOptions
from training.stream.prompts.base import Prompt
from training.stream.prompts.unimo_g import UnimoG
from training.stream.reader import _portable
from training.stream.readers import ReaderError
from training.stream.recipe import STREAM_RECIPES
from training.stream.source import Dataset
from training.stream.stream import PromptStream
from training.stream.world import World

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("readers") / "run", units=3, rows=20)


def stream_of(root: Path, readers: int, size: int = 1, rank: int = 0, **options: Any) -> PromptStream:
    world = World(rank=rank, size=size)
    return open_stream(root, root.parent / "cache", world, batch_size=12, readers=readers, **options)


def read(root: Path, readers: int, steps: int, state: dict[str, Any] | None = None, **options: Any) -> Any:
    """Checksums of batches, and the last state as JSON gives it back."""
    with stream_of(root, readers, **options) as stream:
        if state:
            stream.load_state_dict(state)
        crcs = [batch_crc(next(stream)) for _ in range(steps)]
        return crcs, json.loads(json.dumps(stream.state_dict()))


def processes() -> set[int]:
    return {child.pid for child in psutil.Process().children() if "training.stream.reader" in child.cmdline()}


def test_readers_make_the_batches_that_threads_make(root: Path) -> None:
    whole, _ = read(root, 0, 9)
    first, state = read(root, 2, 4)
    assert first == whole[:4]
    assert read(root, 3, 5, state, threads=2)[0] == whole[4:]
    shares = [read(root, readers, 6, size=2, rank=1, accumulation=2)[0] for readers in (0, 2)]
    assert shares[0] == shares[1]


def test_batches_stay_good_and_may_be_written_to_when_the_readers_are_gone(root: Path) -> None:
    with stream_of(root, 1) as stream:
        batch: Batch = next(stream)
        before = batch_crc(batch)
        assert processes()
    assert not processes()
    assert batch_crc(batch) == before
    assert batch.images.flags.writeable
    batch.images[...] += 1
    assert batch_crc(batch) != before


def test_damage_is_replaced_by_the_same_spares_and_remembered_by_all_readers(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", units=3, rows=20)
    tar = root / "shards" / "000000.tar"
    good = tar.read_bytes()
    bytes_changed("jpg", flip)(root)
    found, last = read(root, 0, 12)
    assert read(root, 2, 12) == (found, last)
    _, state = read(root, 2, 6)
    assert state["quarantine"]
    tar.write_bytes(good)
    assert read(root, 2, 6, state)[0] == found[6:]


def test_batches_without_any_pixels_or_references_come_through(root: Path) -> None:
    recipe = replace(STREAM_RECIPES["plain"](64), pixels=False)
    options = StreamOptions(cache=root.parent / "cache", readers=1)
    with PromptStream(str(root), recipe=recipe, batch_size=4, world=World(), options=options) as stream:
        batch = next(stream)
        assert (batch.images.shape, len(batch.references), len(batch)) == ((4, 0, 0, 3), 0, 4)


def test_what_goes_wrong_in_a_reader_is_raised_where_the_batch_is_taken(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", units=3, rows=20)
    (root / "shards" / "000002.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"000002\.tar.*must stay where it is"):
        read(root, 2, 6)


class StrangeError(Exception):
    """An error that pickle takes and can't give back."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")


@pytest.mark.parametrize(
    "error", [StrangeError("s3", "slow down"), OSError(threading.Lock()), KeyError("a"), MemoryError()]
)
def test_every_error_of_a_reader_can_be_sent(error: Exception) -> None:
    sent = pickle.loads(pickle.dumps(_portable(error)))
    assert str(error) in str(sent)
    assert type(sent) is (type(error) if isinstance(error, KeyError | MemoryError) else OSError)


def test_a_reader_that_is_killed_ends_the_stream_with_what_may_help(root: Path) -> None:
    with stream_of(root, 2, prefetch=2) as stream:
        next(stream)
        for pid in processes():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(ReaderError, match=r"signal 9.*lower readers, prefetch or read_ahead_bytes"):
            for _ in range(8):
                next(stream)
    assert not processes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Homeless(UnimoG):
    """A builder whose module only this process has."""

    def build(self, example: Example, framing: Framing, draws: Draws) -> Prompt:
        return super().build(example, framing, draws)


def test_a_recipe_that_readers_cannot_import_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("only_here")
    module.Homeless = Homeless  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "only_here", module)
    monkeypatch.setattr(Homeless, "__module__", "only_here")
    recipe = replace(STREAM_RECIPES["plain"](64), builder=Homeless())
    options = StreamOptions(cache=root.parent / "cache", readers=1)
    with (
        PromptStream([Dataset(url=str(root))], recipe=recipe, batch_size=4, world=World(), options=options) as stream,
        pytest.raises(ReaderError, match=r"No module named 'only_here'.*modules that it can import.*readers=0"),
    ):
        next(stream)


def test_readers_end_with_a_process_that_is_killed_and_not_by_the_signals_of_its_job(root: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.training.stream.test_readers import stream_of, processes\n"
        "stream = stream_of(Path(sys.argv[1]), 2); next(stream), next(stream)\n"
        "print(*processes(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(root)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 2
        for number in (signal.SIGINT, signal.SIGTERM):
            for pid in pids:
                os.kill(pid, number)
        time.sleep(0.5)
        assert all(psutil.pid_exists(pid) for pid in pids)
        process.kill()
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_readers_cpu_is_counted(root: Path) -> None:
    with stream_of(root, 1) as stream:
        assert stream.maker.cpu_s() == 0
        next(stream)
        assert 0 < stream.maker.cpu_s() < 100
        assert np.isfinite(stream.maker.cpu_s())
