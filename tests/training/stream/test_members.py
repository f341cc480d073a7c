import zlib

import pytest

from training.stream.catalog import Entry
from training.stream.example import SampleError
from training.stream.members import cut_members


def entry(members: tuple[tuple[str, int, int, int], ...], fault: str = "") -> Entry:
    return Entry("000000.tar", "a", 512, 12, 8, 8, fault, members)


GOOD = entry((("jpg", 0, 5, zlib.crc32(b"image")), ("json", 8, 4, zlib.crc32(b"text"))))


def test_members_are_cut_out_by_name() -> None:
    assert cut_members(GOOD, b"image---text", verify=True) == {"jpg": b"image", "json": b"text"}


@pytest.mark.parametrize(
    ("where", "data", "reason"),
    [
        (GOOD, b"image---tex", "truncated"),
        (GOOD, b"imagf---text", "crc_mismatch"),
        (entry((("jpg", 0, 0, 0),)), b"", "empty_member"),
        (entry((), "duplicate_key"), b"", "duplicate_key"),
    ],
)
def test_damage_is_told_by_reason_and_member(where: Entry, data: bytes, reason: str) -> None:
    with pytest.raises(SampleError, match=r"000000\.tar: a") as error:
        cut_members(where, data, verify=True)
    assert error.value.reason == reason


def test_checksums_may_be_left_out() -> None:
    assert cut_members(GOOD, b"imagf---text", verify=False)["jpg"] == b"imagf"
