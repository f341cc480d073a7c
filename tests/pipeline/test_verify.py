"""Whatever happens to committed files, `verify` finds it."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from manifests.shard import read_samples, write_tar
from pipeline.ledger import Layout, ResumeError
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import Prepared, execute
from pipeline.verify import verify


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
    assert verify(layout) == ([], 2)


def test_a_flipped_bit_is_found(layout: Layout) -> None:
    flip(layout.tar("000000"), 700)
    mistakes, _ = verify(layout)
    assert any("000000.tar: sha256 is" in mistake for mistake in mistakes)


@pytest.mark.parametrize("kind", ["tar", "index", "rejects"])
def test_a_missing_or_truncated_file_is_found(layout: Layout, kind: str) -> None:
    path: Path = getattr(layout, kind)("000001")
    path.write_bytes(path.read_bytes()[:-600])
    assert any(str(path) in mistake for mistake in verify(layout)[0])
    path.unlink()
    assert f"{path}: missing" in verify(layout)[0]


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
    assert any("fingerprint is not that of run.json" in mistake for mistake in verify(layout)[0])


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="holds no run"):
        verify(Layout(tmp_path))
