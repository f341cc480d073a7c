import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.shard import INDEX_SCHEMA, build_index
from manifests.tar import read_samples
from tests.training.stream.runs import write_run
from training.stream.catalog import Catalog, UnitIndex, unit_arrays


def index(rows: list[tuple[str, str, int]]) -> pa.Table:
    """An index of members ``(key, name, size)`` one after another."""
    offset, plain = 512, []
    for key, name, size in rows:
        side = 10 if name == "jpg" else None
        plain.append(
            {"key": key, "member": name, "offset": offset, "size": size, "crc32": 7, "width": side, "height": side}
        )
        offset += -(-size // 512) * 512 + 512
    return pa.Table.from_pylist(plain, schema=INDEX_SCHEMA)


def unit(name: str, table: pa.Table) -> UnitIndex:
    return UnitIndex(name=name, path=f"{name}.tar", identity="1", digest="d", table=table)


SAMPLES = st.lists(
    st.tuples(st.text("abcäß", min_size=1, max_size=5), st.lists(st.integers(0, 5000), min_size=1, max_size=4)),
    max_size=8,
    unique_by=lambda sample: sample[0],
)


@given(st.lists(SAMPLES, min_size=1, max_size=4))
def test_every_member_is_found_where_the_index_has_it(tmp_path_factory: pytest.TempPathFactory, units: list) -> None:
    catalog = Catalog(tmp_path_factory.mktemp("catalog"))
    tables = [
        index([(key, f"m{n}", size) for key, sizes in samples for n, size in enumerate(sizes)]) for samples in units
    ]
    catalog.add(unit(f"{number:03d}", table) for number, table in enumerate(tables))
    for number, (samples, table) in enumerate(zip(units, tables, strict=True)):
        part, place, _ = catalog.known()[f"{number:03d}"]
        offsets = iter(table["offset"].to_pylist())
        for row, (key, sizes) in enumerate(samples):
            entry = catalog.parts[part].entry(place, row)
            assert (entry.key, entry.path, entry.fault) == (key, f"{number:03d}.tar", "")
            for (_name, start, size, crc), expected in zip(entry.members, sizes, strict=True):
                assert (entry.offset + start, size, crc) == (next(offsets), expected, 7)
            assert entry.size == entry.members[-1][1] + entry.members[-1][2]


def test_the_bytes_of_a_committed_shard_are_where_the_catalog_says(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", units=1, rows=6)
    tar = root / "shards" / "000000.tar"
    catalog = Catalog(tmp_path / "cache")
    with tar.open("rb") as file:
        catalog.add([unit("000000", build_index(file))])
        for row, (key, members) in enumerate(read_samples(file)):
            entry = catalog.parts[0].entry(0, row)
            file.seek(entry.offset)
            data = file.read(entry.size)
            assert entry.key == key
            assert {name: data[start : start + size] for name, start, size, _ in entry.members} == members


def test_target_sizes_are_the_first_whole_pictures() -> None:
    table = index([("a", "json", 3), ("a", "jpg", 9), ("b", "subject0.jpg", 4), ("b", "txt", 1)])
    samples, _, _ = unit_arrays(table, {})
    assert samples["width"].tolist() == samples["height"].tolist() == [10, 0]


def test_keys_and_members_that_come_twice_are_marked() -> None:
    table = index([("a", "jpg", 1), ("b", "jpg", 1), ("b", "jpg", 1), ("a", "jpg", 1), ("c", "txt", 1)])
    catalog_samples, _, _ = unit_arrays(table, {})
    assert catalog_samples["fault"].tolist() == [0, 2, 1, 0]


def test_parts_are_whole_or_not_there(tmp_path: Path) -> None:
    def broken():
        yield unit("000", index([("a", "jpg", 1)]))
        raise OSError("no more")

    catalog = Catalog(tmp_path)
    with pytest.raises(OSError, match="no more"):
        catalog.add(broken())
    assert Catalog(tmp_path).parts == []
    (tmp_path / "v3" / ".left.tmp").mkdir(parents=True)
    catalog.add([unit("000", index([("a", "jpg", 1)]))])
    assert [path.name for path in (tmp_path / "v3").iterdir()] == ["part-000000"]


def test_parts_of_another_process_are_taken_in(tmp_path: Path) -> None:
    first, second = Catalog(tmp_path), Catalog(tmp_path)
    first.add([unit("000", index([("a", "jpg", 1)]))])
    second.reload()
    second.add([unit("001", index([("b", "jpg", 1)]))])
    first.reload()
    assert sorted(first.known()) == sorted(second.known()) == ["000", "001"]
    assert first.parts[1].entry(0, 0).key == "b"


def test_empty_units_have_no_samples(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    catalog.add([unit("000", index([])), unit("001", index([("a", "jpg", 1)]))])
    assert np.diff(catalog.parts[0].firsts).tolist() == [0, 1]
    assert Catalog(tmp_path).parts[0].entry(1, 0).key == "a"


def test_an_index_made_from_any_tar_can_be_entered(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("x.jpg", "x.txt", "y.jpg"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    samples, members, keys = unit_arrays(build_index(file), {})
    assert (len(samples), len(members), keys) == (2, 3, b"xy")
