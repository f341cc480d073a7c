from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.catalog import write_catalog
from tests.training.stream.runs import write_run
from training.stream.buckets import Buckets
from training.stream.catalog import Catalog
from training.stream.describe import Description, dataset_line, describe, tables
from training.stream.order import OrderParams
from training.stream.snapshot import Snapshot
from training.stream.source import Dataset


def look_at(folder: Path, *datasets: Dataset, batch_size: int = 4) -> Description:
    return describe(datasets, Buckets(base=64), OrderParams(seed=0, batch_size=batch_size), folder / "cache")


def test_samples_are_counted_by_bucket_and_tails_add_up(tmp_path: Path) -> None:
    write_run(tmp_path / "a", units=2, rows=15)

    found = look_at(tmp_path, Dataset(url=str(tmp_path / "a")))

    assert [line.samples for line in found.buckets] == [0, 6, 12, 6, 6]
    assert [(line.batches, line.left) for line in found.buckets] == [(0, 0), (1, 2), (3, 0), (1, 2), (1, 2)]
    assert (found.datasets[0].units, found.datasets[0].samples) == (2, 30)


def test_subjects_and_members_are_those_of_the_index(tmp_path: Path) -> None:
    write_run(tmp_path / "a", units=1, rows=8)  # with 0, 1, 2, 3, 0, 1, 2, 3 subjects

    line = look_at(tmp_path, Dataset(url=str(tmp_path / "a"))).datasets[0]

    assert line.subjects == {1: 6, 2: 4, 3: 2}
    assert line.members["jpg"] == line.members["json"] == 8
    assert line.members["subject2.mask.png"] == 2


def test_a_large_data_set_is_told_whole(tmp_path: Path) -> None:
    names = write_catalog(tmp_path, 1_000_000)
    samples = np.load(next(tmp_path.glob("v*/part-000000")) / "samples.npy", mmap_mode="r+")
    samples["fault"][[5, 7, 999_999]] = [1, 2, 1]
    samples["width"][:10] = 0
    snapshot = Snapshot("made up", Catalog(tmp_path), names, Buckets())

    line = dataset_line(snapshot)

    assert (line.units, line.samples, line.unsized, line.bytes) == (500, 1_000_000, 10, 43_000_000_000)
    assert line.members == {"jpg": 1_000_000}
    assert line.faults == {"duplicate_key": 2, "duplicate_member": 1}


def test_repeats_lengthen_the_epoch_but_not_the_data_set(tmp_path: Path) -> None:
    write_run(tmp_path / "a", units=1, rows=10)

    found = look_at(tmp_path, Dataset(url=str(tmp_path / "a"), repeats=3))

    assert sum(line.samples for line in found.buckets) == 30
    assert found.datasets[0].samples == 10


def test_the_tables_say_all_of_it_and_take_brackets_in_names_as_text(tmp_path: Path) -> None:
    write_run(tmp_path / "a", units=1, rows=10)
    found = look_at(tmp_path, Dataset(url=str(tmp_path / "a")))
    console = Console(record=True, width=200)

    console.print(tables(found))

    text = console.export_text()
    assert all(word in text for word in ("subject0.mask.png", "carried over", "1.5", "10"))
