"""Tars: every header is what tarfile would write, and bytes depend on the samples alone."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.tar import tar_header, write_tar

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=160)


@given(names, st.integers(0, 8**12))
def test_a_header_is_what_tarfile_writes(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    try:
        expected = info.tobuf(format=tarfile.USTAR_FORMAT, encoding="utf-8", errors="strict")
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)):
            tar_header(name, size)
    else:
        assert tar_header(name, size) == expected


def test_bytes_do_not_depend_on_when_or_where() -> None:
    file = io.BytesIO()
    write_tar(file, [("k", [("txt", b"hello")])])
    assert len(file.getvalue()) == 10240
    with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as tar:
        info = tar.getmember("k.txt")
    assert (info.mtime, info.uid, info.gid, info.uname, info.mode) == (0, 0, 0, "", 0o644)
    assert file.getvalue()[257:263] == b"ustar\0"


def test_a_key_with_a_dot_is_refused() -> None:
    with pytest.raises(ValueError, match=r"key 'a\.b' has a dot"):
        write_tar(io.BytesIO(), [("a.b", [("txt", b"")])])
