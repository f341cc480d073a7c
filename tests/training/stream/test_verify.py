from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.stream.make import draw_record, with_features
from tests.training.stream.runs import write_run, write_unit
from training.stream.buckets import Buckets
from training.stream.catalog import Entry
from training.stream.describe import look
from training.stream.snapshot import DatasetError
from training.stream.verify import Verified, VerifyOptions, verify


def check(folder: Path, decode: bool = False) -> Verified:
    return verify(str(folder / "a"), VerifyOptions(threads=2, decode=decode, cache=folder / "cache"), lambda *_: None)


def reasons(verified: Verified) -> dict[str, int]:
    return {reason: damage.count for reason, damage in verified.damage.items()}


def entry(folder: Path, row: int) -> Entry:
    return look(str(folder / "a"), Buckets(), folder / "cache").catalog.parts[0].entry(0, row)


def change(folder: Path, at: Entry, member: str, data: bytes | None = None) -> None:
    """Overwrite a member's bytes in its tar, in the middle."""
    _, start, size, _ = next(part for part in at.members if part[0] == member)
    with (folder / "a" / at.path).open("r+b") as file:
        file.seek(at.offset + start + size // 2)
        file.write(data or b"\xff\x00\xff")


def test_a_whole_data_set_has_no_damage(tmp_path: Path) -> None:
    write_run(tmp_path / "a", units=2, rows=6)

    assert check(tmp_path, decode=True) == Verified(samples=12)


def test_a_changed_byte_of_any_member_is_found_and_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", units=1, rows=8)
    change(tmp_path, entry(tmp_path, 3), "subject2.mask.png")

    found = check(tmp_path)

    assert reasons(found) == {"crc_mismatch": 1}
    assert found.damage["crc_mismatch"].first == ["drawn_3"]
    assert "drawn_3.subject2.mask.png" in found.damage["crc_mismatch"].message


def test_features_of_a_caption_that_was_changed_since_are_found(tmp_path: Path) -> None:
    record = with_features(draw_record("drawn_0", 64, 64))
    write_unit(
        tmp_path / "a", 0, [record, replace(record, key="drawn_1", caption="a man, a hat and a dog", subjects=())]
    )

    assert reasons(check(tmp_path)) == {"other_content": 1}


def test_a_tar_cut_short_damages_the_samples_behind_the_cut_alone(tmp_path: Path) -> None:
    write_run(tmp_path / "a", units=2, rows=6)
    at = entry(tmp_path, 4)
    with (tmp_path / "a" / at.path).open("r+b") as file:
        file.truncate(at.offset + 10)

    found = check(tmp_path)

    assert reasons(found) == {"truncated": 2}
    assert found.samples == 12


def test_a_tar_that_is_gone_is_damage_and_the_others_are_still_read(tmp_path: Path) -> None:
    write_run(tmp_path / "a", units=2, rows=6)
    entry(tmp_path, 0)
    (tmp_path / "a" / "shards" / "000001.tar").unlink()

    found = check(tmp_path)

    assert reasons(found) == {"missing_tar": 6}
    assert found.samples == 12


def test_a_key_in_two_units_is_found(tmp_path: Path) -> None:
    write_unit(tmp_path / "a", 0, [draw_record("same"), draw_record("one")])
    write_unit(tmp_path / "a", 1, [draw_record("other"), draw_record("same")])

    found = check(tmp_path)

    assert reasons(found) == {"key_in_several_units": 1}
    assert "000000, 000001" in found.damage["key_in_several_units"].message


def test_a_picture_whose_pixels_are_broken_is_found_by_decoding_it(tmp_path: Path) -> None:
    from dataclasses import replace

    whole = draw_record("broken", 64, 64)
    assert whole.image is not None
    cut = replace(whole.image, data=whole.image.data[: len(whole.image.data) // 2])
    write_unit(tmp_path / "a", 0, [replace(whole, image=cut), draw_record("fine")])

    assert reasons(check(tmp_path)) == {}
    assert reasons(check(tmp_path, decode=True)) == {"bad_image": 1}


def test_an_index_that_was_changed_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_run(tmp_path / "a", units=1, rows=4)
    (tmp_path / "a" / "shards" / "000000.parquet").write_bytes(b"no index")

    with pytest.raises(DatasetError, match=r"000000\.parquet"):
        check(tmp_path)


def test_progress_reaches_the_number_of_samples(tmp_path: Path) -> None:
    write_run(tmp_path / "a", units=2, rows=6)
    told: list[tuple[int, int]] = []

    verify(str(tmp_path / "a"), VerifyOptions(cache=tmp_path / "cache"), lambda done, total: told.append((done, total)))

    assert told[-1] == (12, 12)
    assert told == sorted(told)


def test_features_of_another_picture_than_the_sample_has_are_found_whoever_reads_them(tmp_path: Path) -> None:
    good, stale = with_features(draw_record("drawn_0")), with_features(draw_record("drawn_1"))
    write_unit(tmp_path / "a", 0, [good, replace(stale, image=draw_record("another", 120).image)])

    assert reasons(check(tmp_path)) == {"other_content": 1}
