"""Damaged data: told by reason, replaced by a spare of its bucket, the same for everyone, never a part of a sample."""

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manifests.record import Picture
from manifests.shard import build_index
from manifests.tar import read_samples, read_tar, write_tar
from tests.training.stream.make import draw_record, with_features
from tests.training.stream.runs import write_run, write_unit
from tests.training.stream.worker import digests, open_stream
from training.stream.collate import Batch
from training.stream.options import StreamOptions
from training.stream.recipe import STREAM_RECIPES
from training.stream.snapshot import DatasetError
from training.stream.state import Quarantined
from training.stream.stream import PromptStream
from training.stream.world import Alone, World

VICTIM = "drawn_7"
Damage = Callable[[Path], None]


def bytes_changed(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Damage to the bytes of a member of the victim after the commit, in place."""

    def damage(root: Path) -> None:
        tar = root / "shards" / "000000.tar"
        data = bytearray(tar.read_bytes())
        with tar.open("rb") as file:
            member = next(m for m in read_tar(file) if m.key == VICTIM and m.name == name)
        changed = change(member.data)
        assert len(changed) == len(member.data) and changed != member.data
        data[member.offset : member.offset + len(changed)] = changed
        tar.write_bytes(data)

    return damage


def members_changed(change: Callable[[dict[str, bytes]], None]) -> Damage:
    """Damage to the victim before the commit: checksums are right, the sample isn't."""

    def damage(root: Path) -> None:
        tar = root / "shards" / "000000.tar"
        with tar.open("rb") as file:
            samples = {key: dict(members) for key, members in read_samples(file)}
        change(samples[VICTIM])
        with tar.open("w+b") as file:
            write_tar(file, [(key, list(members.items())) for key, members in samples.items()])
            recommit(root, build_index(file))

    return damage


def recommit(root: Path, table: object) -> None:
    import hashlib

    from manifests.shard import parquet_bytes

    data = parquet_bytes(table)  # type: ignore[arg-type]
    (root / "shards" / "000000.parquet").write_bytes(data)
    record = root / "units" / "000000.json"
    plain = json.loads(record.read_text()) | {"index_sha256": hashlib.sha256(data).hexdigest()}
    record.write_text(json.dumps(plain))


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes that says it has very many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def without(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.pop(name) and None


def with_bytes(name: str, data: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({name: data})


def without_caption(data: bytes) -> bytes:
    return json.dumps({name: value for name, value in json.loads(data).items() if name != "caption"}).encode()


def bombs() -> dict[str, bytes]:
    return {f"subject{number}.jpg": bomb(100_000, 100_000) for number in range(3)}


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a bit of the target": (bytes_changed("jpg", flip), "crc_mismatch"),
    "a bit of a reference": (bytes_changed("subject1.jpg", flip), "crc_mismatch"),
    "a bit of a mask": (bytes_changed("subject0.mask.png", flip), "crc_mismatch"),
    "a bit of the JSON": (bytes_changed("json", flip), "crc_mismatch"),
    "an empty member": (members_changed(with_bytes("subject0.jpg", b"")), "empty_member"),
    "an empty target": (members_changed(with_bytes("jpg", b"")), "empty_member"),
    "no reference": (members_changed(without("subject1.jpg")), "missing_reference"),
    "a JSON of something else": (members_changed(lambda m: m.update(json=without_caption(m["json"]))), "bad_json"),
    "a target that is no picture": (members_changed(with_bytes("jpg", b"<html>" * 50)), "bad_image"),
    "half a target": (members_changed(lambda m: m.update(jpg=m["jpg"][: len(m["jpg"]) // 2])), "bad_image"),
    "references of 10 gigapixels": (members_changed(lambda m: m.update(bombs())), "bomb"),
    "a target of 10 gigapixels": (members_changed(with_bytes("jpg", bomb(100_000, 100_000))), "bomb"),
}


def read(root: Path, steps: int, size: int = 1, state: dict | None = None) -> tuple[list[list], list[Batch], dict]:
    """Samples of the global batches, the batches of the last rank, and its last state."""
    found: list[list] = [[] for _ in range(steps)]
    for rank in range(size):
        with open_stream(root, root.parent / "cache", World(rank=rank, size=size), batch_size=12) as stream:
            if state:
                stream.load_state_dict(state)
            batches = [next(stream) for _ in range(steps)]
            for samples, batch in zip(found, batches, strict=True):
                samples += digests(batch)
            last = json.loads(json.dumps(stream.state_dict()))
    return found, batches, last


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", units=3, rows=20)


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_quarantined_and_replaced_within_its_bucket(root: Path, tmp_path: Path, what: str) -> None:
    whole, _, _ = read(root, 8)
    (tmp_path / "cache").rename(tmp_path / "cache-before")
    damage, reason = DAMAGES[what]
    damage(root)
    found, batches, state = read(root, 8)
    assert [(bad["key"], bad["reason"]) for bad in state["quarantine"]] == [(VICTIM, reason)]
    for before, after, batch in zip(whole, found, batches, strict=True):
        for old, new in zip(before, after, strict=True):
            assert (new == old) if old[0] != VICTIM else new[0] != VICTIM
        assert batch.images.shape[1:3] == batch.place.size[::-1]


def test_spares_are_the_same_on_any_world_and_after_resuming(root: Path) -> None:
    bytes_changed("jpg", flip)(root)
    found, _, _ = read(root, 12)
    first, _, state = read(root, 6)
    assert read(root, 12, size=3)[0] == found
    assert first + read(root, 6, size=2, state=state)[0] == found


def test_what_is_quarantined_stays_so_when_the_file_is_mended(root: Path) -> None:
    tar = root / "shards" / "000000.tar"
    good = tar.read_bytes()
    bytes_changed("jpg", flip)(root)
    found, _, _ = read(root, 12)
    _, _, state = read(root, 6)
    tar.write_bytes(good)
    assert state["quarantine"] and read(root, 6, state=state)[0] == found[6:]


def test_a_bucket_whose_samples_are_all_damaged_takes_spares_of_others(tmp_path: Path) -> None:
    root = tmp_path / "run"
    write_unit(root, 0, [draw_record(f"drawn_{n}", 64, 32 if n == 7 else 64) for n in range(24)])
    bytes_changed("jpg", flip)(root)
    found, batches, state = read(root, 24)
    (wide,) = (batch for batch in batches if batch.place.ratio == 2)
    assert wide.images.shape[1:3] == wide.place.size[::-1] and VICTIM not in wide.keys
    assert (state["damaged"], [bad["key"] for bad in state["quarantine"]]) == (12, [VICTIM])
    assert read(root, 24, size=3)[0] == found


def test_a_truncated_shard_costs_the_samples_behind_the_cut(root: Path) -> None:
    tar = root / "shards" / "000001.tar"
    with tar.open("rb") as file:
        members = list(read_tar(file))
    cut = next(member.offset for member in members if member.key == "drawn_37") + 10
    tar.write_bytes(tar.read_bytes()[:cut])
    _, _, state = read(root, 10)
    assert {(bad["key"], bad["reason"]) for bad in state["quarantine"]} <= {
        (f"drawn_{n}", "truncated") for n in (37, 38, 39)
    }
    assert len(state["quarantine"]) == 3


def test_of_a_key_that_comes_twice_the_first_is_read(root: Path) -> None:
    write_unit(root, 3, [draw_record(f"twice_{n % 9}", 64, 64) for n in range(10)])
    found, _, state = read(root, 24)
    assert [(bad["key"], bad["reason"]) for bad in state["quarantine"]] == [("twice_0", "duplicate_key")]
    assert sum(key == "twice_0" for samples in found for key, _ in samples) >= 3
    assert read(root, 24, size=4)[0] == found


def test_a_png_target_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    records = [draw_record(f"drawn_{n}", 64, 64) for n in range(24)]
    huge = Picture(format="png", width=64, height=64, data=bomb(60_000, 60_000))
    write_unit(tmp_path / "run", 0, [*records, replace(records[0], key="bomb", image=huge)])
    _, _, state = read(tmp_path / "run", 6)
    assert [bad["reason"] for bad in state["quarantine"]] == ["bomb"]


def test_too_much_damage_stops_the_run_with_a_diagnosis(root: Path) -> None:
    half_damaged(root)
    with pytest.raises(DatasetError, match=r"max_damaged=0.01 allows: \d+ crc_mismatch; first: .*drawn_\d+.*--verify"):
        read(root, 20)


def test_too_many_samples_without_what_a_recipe_wants_stop_the_run_with_what_they_lack(tmp_path: Path) -> None:
    write_run(tmp_path / "run", units=1, rows=40)
    featured = [with_features(draw_record(f"featured_{n}", 64, 64)) for n in range(40)]
    write_unit(tmp_path / "run", 1, featured)
    recipe, options = STREAM_RECIPES["lambda_eclipse"](64), StreamOptions(cache=tmp_path / "cache")
    stream = PromptStream(str(tmp_path / "run"), recipe=recipe, batch_size=16, options=options)
    with stream, pytest.raises(DatasetError, match=r"not what the recipe wants, .*drawn_\d+ lacks the feat") as error:
        for _ in range(10):
            next(stream)
    assert "--verify" not in str(error.value)


def half_damaged(root: Path) -> None:
    for tar in (root / "shards").glob("*.tar"):
        data = bytearray(tar.read_bytes())
        with tar.open("rb") as file:
            for number, member in enumerate(m for m in read_tar(file) if m.name == "jpg"):
                if number % 2:
                    data[member.offset + 100] ^= 1
        tar.write_bytes(data)


class Beside(Alone):
    """Another rank that found much more than this one."""

    def __init__(self, found: list[Quarantined]) -> None:
        self.found = found

    def gather(self, value: Any) -> list[Any]:
        return [value, self.found]


def test_damage_on_another_rank_stops_this_one_too(root: Path) -> None:
    bad = Quarantined(source=0, path="a.tar", offset=0, key="a", reason="bomb", message="a.tar: a: bomb")
    world = World(rank=0, size=2, group=Beside([bad] * 17))
    with open_stream(root, root.parent / "cache", world, batch_size=12) as stream:
        next(stream)
        with pytest.raises(DatasetError, match=r"17 of 24 samples read.*allows: 1 bomb; first: a\.tar: a: bomb"):
            next(stream)


def test_damage_is_judged_over_the_whole_run(root: Path) -> None:
    _, _, state = read(root, 4)
    half_damaged(root)
    _, _, later = read(root, 4, state=state | {"step": 1_000_000})
    assert later["damaged"] > 16
    with pytest.raises(DatasetError, match=r"\d\d of 60 samples read were damaged"):
        read(root, 1, state=state | {"damaged": 16})


def test_nothing_but_damage_stops_the_run(root: Path) -> None:
    for tar in (root / "shards").glob("*.tar"):
        tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(DatasetError, match="50 samples one after another are damaged"):
        read(root, 1)


def test_a_shard_that_is_gone_is_no_damage_but_stops_the_run(root: Path) -> None:
    (root / "shards" / "000002.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"000002\.tar.*must stay where it is"):
        read(root, 6)
