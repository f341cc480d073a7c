import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manifests.record import to_plain
from tests.training.stream.make import draw_record
from tests.training.stream.runs import write_run, write_unit
from training.stream.buckets import Buckets
from training.stream.snapshot import DatasetError, Fingerprint, assign
from training.stream.source import Dataset, Source, repeats_of

BUCKETS = Buckets(base=64)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", units=3, rows=10)


@pytest.fixture
def source(run: Path, tmp_path: Path) -> Source:
    return Source(str(run), tmp_path / "cache")


def test_samples_are_numbered_by_bucket_in_the_order_of_the_units(source: Source) -> None:
    snapshot = source.freeze(source.refresh(), BUCKETS)
    assert sum(snapshot.counts) == 30
    keys = [[snapshot.entry(bucket, n).key for n in range(count)] for bucket, count in enumerate(snapshot.counts)]
    for bucket, of_bucket in enumerate(keys):
        assert of_bucket == sorted(of_bucket, key=lambda key: int(key.removeprefix("drawn_")))
        for key, entry in ((entry.key, entry) for n in range(len(of_bucket)) for entry in [snapshot.entry(bucket, n)]):
            assert BUCKETS.assign(np.array([entry.width]), np.array([entry.height]))[0] == bucket, key
    assert sorted(key for of_bucket in keys for key in of_bucket) == sorted(f"drawn_{n}" for n in range(30))


def test_a_fingerprint_comes_back_through_json_and_finds_its_data_again(source: Source) -> None:
    stated = source.freeze(source.refresh(), BUCKETS).fingerprint()
    again = Fingerprint.from_plain(json.loads(json.dumps(to_plain(stated))))
    assert again == stated and stated.units == "000000..000002"
    assert source.restore(again, BUCKETS).counts == source.freeze(source.refresh(), BUCKETS).counts


def test_a_copy_beside_a_units_record_is_no_unit(source: Source, run: Path) -> None:
    for copy in ("000001 (copy).json", "000001-2.json"):
        (run / "units" / copy).write_bytes((run / "units" / "000001.json").read_bytes())
    assert source.refresh() == ["000000", "000001", "000002"]


def test_units_that_came_since_are_no_change(source: Source, run: Path) -> None:
    stated = source.freeze(source.refresh(), BUCKETS).fingerprint()
    write_run(run, units=2, rows=10, first=3)
    assert sum(source.restore(stated, BUCKETS).counts) == 30
    assert sum(source.freeze(source.refresh(), BUCKETS).counts) == 50


def test_a_changed_unit_is_refused_and_placed(source: Source, run: Path) -> None:
    before = source.freeze(source.refresh(), BUCKETS)
    write_unit(run, 1, [draw_record(f"other_{n}") for n in range(10)])
    with pytest.raises(DatasetError, match=r"units changed among 000001 \(30 samples now, 30 then\).*old data back"):
        source.restore(before.fingerprint(), BUCKETS)
    with pytest.raises(DatasetError, match="unit 000001 changed while"):
        source.freeze(source.refresh(), BUCKETS).check_growth(before)


def test_a_missing_unit_is_refused_and_named(source: Source, run: Path) -> None:
    before = source.freeze(source.refresh(), BUCKETS)
    (run / "units" / "000002.json").unlink()
    with pytest.raises(DatasetError, match="lacks 1 of the 3 units that the state names, 000002 first"):
        source.restore(before.fingerprint(), BUCKETS)
    with pytest.raises(DatasetError, match="unit 000002 is gone"):
        source.freeze(source.refresh(), BUCKETS).check_growth(before)


def test_only_committed_units_are_there(source: Source, run: Path) -> None:
    write_run(run, units=1, rows=10, first=3)
    (run / "units" / "000003.json").unlink()
    assert source.refresh() == ["000000", "000001", "000002"]


def test_an_index_that_is_not_the_committed_one_is_refused(source: Source, run: Path) -> None:
    index = run / "shards" / "000001.parquet"
    index.write_bytes(index.read_bytes() + b"x")
    with pytest.raises(DatasetError, match=r"000001\.parquet: not the index that units/000001\.json names.*verify"):
        source.refresh()


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no committed units and no tars"):
        Source(str(tmp_path / "empty"), tmp_path / "cache").refresh()


def test_the_shards_of_a_run_are_not_read_past_its_commits(source: Source, run: Path, tmp_path: Path) -> None:
    shards = Source(f"{run / 'shards'}/", tmp_path / "cache")
    assert len(shards.refresh()) == len(source.refresh())  # tars of a folder that happens to have this name
    (run / "run.json").write_text("{}")
    with pytest.raises(DatasetError, match=rf"shards/ is the shards' folder of a run.*give the run: {run}$"):
        shards.refresh()


def test_what_is_catalogued_is_not_read_again(source: Source, run: Path, tmp_path: Path) -> None:
    source.refresh()
    for index in (run / "shards").glob("*.parquet"):
        index.unlink()
    assert sum(Source(str(run), tmp_path / "cache").freeze(source.refresh(), BUCKETS).counts) == 30


def test_all_that_is_catalogued_is_on_the_disk_before_it_is_there(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, sync, rename = set(), os.fsync, Path.rename

    def fsync(number: int) -> None:
        sync(number)
        synced.add(os.fstat(number).st_ino)

    def checked(path: Path, target: Path) -> Path:
        files = list(path.iterdir()) if path.is_dir() else [path]
        assert files and all(file.stat().st_ino in synced for file in files)
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", checked)
    assert sum(source.freeze(source.refresh(), BUCKETS).counts) == 30


def test_pictures_of_unknown_size_are_taken_for_squares() -> None:
    assert assign(BUCKETS, np.array([0, 0, 100]), np.array([0, 50, 50])).tolist() == [2, 2, 4]


def test_weights_are_shares_of_an_epoch_as_long_as_all_samples() -> None:
    datasets = [Dataset(url="a", weight=3), Dataset(url="b", weight=1)]
    repeats = repeats_of(datasets, [100, 300])
    assert [repeat * count for repeat, count in zip(repeats, [100, 300], strict=True)] == [300, 100]
    assert repeats_of([Dataset(url="a", repeats=0.5)], [7]) == (pytest.approx(0.5),)
    with pytest.raises(ValueError, match="either all data sets have a weight or none"):
        repeats_of([datasets[0], replace(datasets[1], weight=None)], [1, 1])


@pytest.mark.parametrize("name", ["repeats", "weight"])
@pytest.mark.parametrize("wrong", [0.0, -1.0, 1e-7, math.nan, math.inf])
def test_a_data_set_that_would_give_nothing_is_refused(name: str, wrong: float) -> None:
    with pytest.raises(ValueError, match=f"a: {name} must be above 0"):
        Dataset(url="a", **{name: wrong})
