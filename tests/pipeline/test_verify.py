"""Whatever happens to committed files, `verify` finds it."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from manifests.tar import read_samples, write_tar
from pipeline.lease import current
from pipeline.ledger import Layout, ResumeError
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import Prepared, execute
from pipeline.verify import verify
from tests.pipeline.command import call


@pytest.fixture
def layout(prepared: Callable[..., Prepared], tmp_path: Path) -> Layout:
    with open(os.devnull, "w") as nowhere:
        execute(prepared(16), tmp_path / "out", run_local, LineProgress(nowhere))
    return Layout(tmp_path / "out")


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_an_untouched_run_has_no_mistakes(layout: Layout) -> None:
    assert verify(layout) == ([], 2, 2)


def test_it_tells_how_far_it_is(layout: Layout) -> None:
    told: list[tuple[int, int]] = []
    verify(layout, lambda done, units: told.append((done, units)))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_the_command_says_how_a_damaged_unit_is_made_anew(layout: Layout) -> None:
    whole = call("verify", layout.root)
    assert whole.exit_code == 0 and "verifying: 2 units of 2 units" in whole.stderr and "anew" not in whole.stdout
    flip(layout.tar("000000"), 700)
    broken = call("verify", layout.root)
    assert broken.exit_code == 1 and f"delete its record, {layout.unit('NUMBER')}, and run" in broken.stdout


def test_a_flipped_bit_is_found(layout: Layout) -> None:
    flip(layout.tar("000000"), 700)
    mistakes, *_ = verify(layout)
    assert any("000000.tar: sha256 is" in mistake for mistake in mistakes)


@pytest.mark.parametrize("kind", ["tar", "index", "rejects"])
def test_a_missing_or_truncated_file_is_found(layout: Layout, kind: str) -> None:
    path: Path = getattr(layout, kind)("000001")
    path.write_bytes(path.read_bytes()[:-600])
    assert any(str(path) in mistake for mistake in verify(layout)[0])
    path.unlink()
    assert f"{path}: missing" in verify(layout)[0]


def test_a_copy_beside_a_record_or_a_lease_counts_as_none_and_is_told(layout: Layout) -> None:
    for path in (layout.unit("000001"), layout.lease(1), layout.isolation("000001")):
        path.parent.mkdir(exist_ok=True)
        path.with_name(f"{path.stem} (copy).json").write_text("{}")
    assert layout.committed() == ["000000", "000001"] and layout.isolated() == []
    assert current(layout) is None
    (mistake,) = verify(layout)[0]
    assert "000001 (copy).json: belongs to no unit that is done" in mistake


def test_an_index_of_another_tar_is_found(layout: Layout) -> None:
    layout.index("000000").write_bytes(layout.index("000001").read_bytes())
    assert any("differs from the index its tar gives" in mistake for mistake in verify(layout)[0])


def test_a_lost_sample_is_found(layout: Layout) -> None:
    with layout.tar("000000").open("rb") as file:
        samples = [(key, list(members.items())) for key, members in read_samples(file)]
    shorter = io.BytesIO()
    write_tar(shorter, samples[1:])
    layout.tar("000000").write_bytes(shorter.getvalue())
    assert any("5 samples, its unit record says 6" in mistake for mistake in verify(layout)[0])


def test_a_key_in_two_units_is_found(layout: Layout) -> None:
    layout.tar("000001").write_bytes(layout.tar("000000").read_bytes())
    assert any("is also in unit 000000" in mistake for mistake in verify(layout)[0])


def test_counts_that_do_not_add_up_are_found(layout: Layout) -> None:
    plain = json.loads(layout.unit("000000").read_text())
    layout.unit("000000").write_text(json.dumps(plain | {"kept": plain["kept"] - 1}))
    assert any("8 rows, but 5 kept + 2 rejected" in mistake for mistake in verify(layout)[0])


def test_a_unit_of_another_run_is_found(layout: Layout) -> None:
    plain = json.loads(layout.unit("000000").read_text())
    layout.unit("000000").write_text(json.dumps(plain | {"fingerprint": "0" * 64}))
    assert any("is no unit of the run that run.json tells of" in mistake for mistake in verify(layout)[0])


def test_files_of_no_unit_and_units_of_no_run_are_found(layout: Layout) -> None:
    (layout.root / "shards" / "000009.tar").write_bytes(b"")
    copied = layout.unit("000000").read_text()
    layout.unit("000007").write_text(copied)
    mistakes, found, units = verify(layout)
    assert (found, units) == (3, 2)
    assert any("000009.tar: belongs to no unit that is done" in mistake for mistake in mistakes)
    assert any("000007.json: holds the record of unit 000000" in mistake for mistake in mistakes)


def test_rejects_that_are_denied_are_found(layout: Layout) -> None:
    plain = json.loads(layout.unit("000000").read_text())
    layout.unit("000000").write_text(json.dumps(plain | {"rejects_sha256": None}))
    assert any("2 rejected rows, but rejects_sha256 is None" in mistake for mistake in verify(layout)[0])


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"schema_version": "2"}', '{"schema_version": 1, "unit": 0'])
def test_a_damaged_record_is_told_with_what_to_do(layout: Layout, damage: str) -> None:
    layout.unit("000001").write_text(damage)
    assert any("000001.json: damaged" in m and "delete it and run again" in m for m in verify(layout)[0])
    layout.run.write_text(damage)
    with pytest.raises(ResumeError, match=r"run\.json: damaged"):
        verify(layout)


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="holds no run"):
        verify(Layout(tmp_path))
