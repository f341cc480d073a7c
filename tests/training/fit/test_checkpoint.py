import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from training.fit.checkpoint import Checkpoints, Notes, check, committed, read_notes, read_tensors, shapes_in
from training.fit.checksums import DamagedError
from training.fit.skip import Skips
from training.fit.world import joined
from training.plain import NewerError
from training.stream.world import World


@pytest.fixture
def world() -> Iterator[World]:
    with joined(torch.device("cpu")) as world:
        yield world


def save(checkpoints: Checkpoints, step: int, value: float = 0.0) -> None:
    notes = Notes(family="Toy", step=step, skips=Skips(mean=0.5, taken=step), stream={"step": step})
    checkpoints.save({"a": torch.full((3, 2), value), "b": torch.full((1,), value, dtype=torch.bfloat16)}, notes)


def steps(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("step_")) for path in committed(folder)]


def test_what_is_saved_is_read_and_the_newest_are_kept(world: World, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 2, world)
    for step in (1, 2, 3):
        save(checkpoints, step, float(step))
    checkpoints.finish()
    assert steps(tmp_path) == [2, 3]
    assert checkpoints.newest() == tmp_path / "step_00000003"
    tensors = {"a": torch.zeros(3, 2), "b": torch.zeros(1, dtype=torch.bfloat16)}
    read_tensors(tmp_path / "step_00000002", tensors)
    assert {float(value) for tensor in tensors.values() for value in tensor.flatten()} == {2.0}
    assert shapes_in(tmp_path / "step_00000002") == {"a": (3, 2), "b": (1,)}
    notes = read_notes(tmp_path / "step_00000002", "Toy")
    assert notes == Notes(family="Toy", step=2, skips=Skips(mean=0.5, taken=2), stream={"step": 2})


def test_tensors_may_change_as_soon_as_saving_has_begun(world: World, tmp_path: Path) -> None:
    checkpoints, value = Checkpoints(tmp_path, 1, world), torch.zeros(100_000)
    checkpoints.save({"a": value}, Notes(family="Toy", step=1, skips=Skips(), stream={}))
    value += 1
    checkpoints.finish()
    read_tensors(tmp_path / "step_00000001", {"a": value})
    assert value.abs().max() == 0


@pytest.mark.parametrize("damage", ["uncommitted", "shorter", "missing"])
def test_what_is_not_whole_is_no_checkpoint_and_goes_at_the_next_start(
    world: World, tmp_path: Path, damage: str
) -> None:
    checkpoints = Checkpoints(tmp_path, 5, world)
    for step in (1, 2):
        save(checkpoints, step)
    checkpoints.finish()
    path = tmp_path / "step_00000002"
    (tensors,) = path.glob("*.safetensors")
    if damage == "uncommitted":
        (path / "COMMIT").unlink()
    elif damage == "shorter":
        tensors.write_bytes(tensors.read_bytes()[:-1])
    else:
        tensors.unlink()
    assert steps(tmp_path) == [1]
    assert Checkpoints(tmp_path, 5, world).newest() == tmp_path / "step_00000001"
    assert [folder.name for folder in tmp_path.iterdir()] == ["step_00000001"]


def flip(file: Path, where: int) -> None:
    """Change one bit of a file."""
    data = bytearray(file.read_bytes())
    data[where] ^= 16
    file.write_bytes(data)


@pytest.mark.parametrize(("name", "where"), [("*.safetensors", -1), ("*.safetensors", 8), ("notes.json", 20)])
def test_a_flipped_bit_is_told_with_the_file_and_the_whole_checkpoint_before(
    world: World, tmp_path: Path, name: str, where: int
) -> None:
    checkpoints = Checkpoints(tmp_path, 5, world)
    for step in (1, 2, 3):
        save(checkpoints, step, 1.0)
    checkpoints.finish()
    assert [file.name for file in (tmp_path / "step_00000001").glob("*.crc32")] == []
    for step in (1, 2, 3):
        check(tmp_path / f"step_0000000{step}")
    (second,), (third,) = ((tmp_path / f"step_0000000{step}").glob(name) for step in (2, 3))
    flip(third, where)
    with pytest.raises(
        DamagedError, match=r"is damaged.*step_00000002 is whole: `rm -r .*step_00000003`, and --resume"
    ):
        check(tmp_path / "step_00000003", world)
    flip(second, where)
    with pytest.raises(DamagedError, match=rf"{third} is damaged.*generate and export take --step 1"):
        check(tmp_path / "step_00000003")
    (tmp_path / "step_00000001" / "COMMIT").unlink()
    with pytest.raises(DamagedError, match="no older one that is whole"):
        check(tmp_path / "step_00000003")
    (tmp_path / "step_00000002" / "COMMIT").write_text("{")
    with pytest.raises(DamagedError, match=r"COMMIT is damaged.*`rm -r .*step_00000002` removes it") as caught:
        committed(tmp_path)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_checkpoint_of_before_there_were_checksums_is_read_and_that_is_told(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path, 5, world)
    save(checkpoints, 1)
    checkpoints.finish()
    commit = tmp_path / "step_00000001" / "COMMIT"
    commit.write_text(json.dumps({"files": json.loads(commit.read_text())["files"]}))
    check(checkpoints.newest() or tmp_path)
    assert "written without checksums" in capsys.readouterr().err


def test_a_failed_write_is_not_committed_and_is_told(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, 5, world)

    def full(file: int) -> None:
        raise OSError("no space left on device")

    save(checkpoints, 1)
    checkpoints.settle(wait=True)
    monkeypatch.setattr("torch.distributed.checkpoint.filesystem.os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save(checkpoints, 2)
        checkpoints.settle(wait=True)
    monkeypatch.undo()
    assert steps(tmp_path) == [1]


def test_a_disk_that_fills_up_beside_the_training_is_told_in_words(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What PyTorch raises then is no ``Exception``, and would end the run with a stack trace."""
    checkpoints = Checkpoints(tmp_path, 5, world)

    def full(file: object, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.fit.checksums._Summed.write", full)
    save(checkpoints, 1)
    with pytest.raises(OSError, match=r"step_00000001 can't be written: \[Errno 28\] No space left.*--resume"):
        checkpoints.settle(wait=True)
    assert steps(tmp_path) == []


def test_a_checkpoint_of_another_family_or_version_or_shape_is_refused(world: World, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 1, world)
    save(checkpoints, 1)
    checkpoints.finish()
    path = tmp_path / "step_00000001"
    with pytest.raises(ValueError, match="a checkpoint of Toy, but the recipe trains Game; take its recipe"):
        read_notes(path, "Game")
    with pytest.raises(ValueError, match=r"a is \(3, 2\), not \(2, 3\) as wanted here"):
        read_tensors(path, {"a": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match=r"c is absent, not \(1,\)"):
        read_tensors(path, {"c": torch.zeros(1)})
    notes = json.loads((path / "notes.json").read_text())
    (path / "notes.json").write_text(json.dumps({**notes, "version": 2}))
    with pytest.raises(NewerError, match="written by a newer Inlay"):
        read_notes(path, "Toy")


def test_a_run_keeps_one_checkpoint_at_least(world: World, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        Checkpoints(tmp_path, 0, world)
