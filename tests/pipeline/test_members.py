from pathlib import Path

import pytest

from manifests.shard import build_index, parquet_bytes
from manifests.tar import write_tar
from pipeline.members import MemberError, list_members, read_members


def shard(folder: Path) -> tuple[Path, Path]:
    tar, index = folder / "0.tar", folder / "0.parquet"
    samples = [(f"k{n}", [("jpg", bytes([n]) * 200_000 * (n == 1)), ("txt", b"%d" % n)]) for n in range(4)]
    with tar.open("w+b") as file:
        write_tar(file, samples)
        index.write_bytes(parquet_bytes(build_index(file)))
    return tar, index


def test_only_what_is_wanted_is_read_in_the_tar_s_order(tmp_path: Path) -> None:
    tar, index = shard(tmp_path)
    members = list_members(index, lambda name: name == "txt")
    read = [(member.key, data) for member, data in read_members(tar, members[::-1])]
    assert read == [(f"k{n}", b"%d" % n) for n in range(4)]
    assert len(list_members(index)) == 8


def test_a_shard_that_is_not_what_its_index_says_is_refused(tmp_path: Path) -> None:
    tar, index = shard(tmp_path)
    members = list_members(index)
    whole = tar.read_bytes()
    tar.write_bytes(whole.replace(b"\x01" * 9, b"\x02" * 9))
    with pytest.raises(MemberError, match=r"0\.tar: k1\.jpg is not what the index says; verify the run"):
        list(read_members(tar, members))
    tar.write_bytes(whole[: members[-1].offset])
    with pytest.raises(MemberError, match=r"k3\.txt is not what"):
        list(read_members(tar, members))
