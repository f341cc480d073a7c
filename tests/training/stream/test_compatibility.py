"""Our shards with members of every kind read by others with identical bytes, and others' tars read by us."""

import gc
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.stream.make import draw_record
from tests.training.stream.runs import write_run
from training.stream.example import parse_example
from training.stream.scan import scan_tar
from training.stream.storage import open_storage

Samples = dict[str, dict[str, bytes]]
UNITS, ROWS = 2, 6


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = write_run(tmp_path_factory.mktemp("compatible"), UNITS, ROWS)
    return sorted(root.rglob("*.tar"))


@pytest.fixture(scope="module")
def samples(tars: list[Path]) -> Samples:
    """Bytes by key and member, as Python's own tarfile reads them."""
    found: Samples = {}
    for path in tars:
        for name, data in plain_members(path):
            key, _, member = name.partition(".")
            found.setdefault(key, {})[member] = data
    return found


def plain_members(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        for info in tar:
            file = tar.extractfile(info)
            assert file is not None
            yield info.name, file.read()


@pytest.fixture
def careless_reader() -> Iterator[None]:
    """Collect here what a library leaves open, so that it is not taken for ours later."""
    yield
    gc.collect()


def test_the_shards_have_members_of_every_kind(samples: Samples) -> None:
    assert len(samples) == UNITS * ROWS
    names = {name for members in samples.values() for name in members}
    assert names >= {"jpg", "subject0.head.jpg", "subject1.mask.png", "face0.jpg", "region0.mask.png", "canny.png"}


def test_tar_extracts_them(tars: list[Path], samples: Samples, tmp_path: Path) -> None:
    for path in tars:
        subprocess.run(["tar", "xf", str(path), "-C", str(tmp_path)], check=True)
    extracted = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert extracted == {f"{key}.{name}": data for key, members in samples.items() for name, data in members.items()}


@pytest.mark.usefixtures("careless_reader")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_them(tars: list[Path], samples: Samples) -> None:
    webdataset = pytest.importorskip("webdataset")
    found = {
        sample["__key__"]: {name: data for name, data in sample.items() if not name.startswith("__")}
        for sample in webdataset.WebDataset([str(path) for path in tars], shardshuffle=False)
    }
    assert found == samples


@pytest.mark.usefixtures("careless_reader")
@pytest.mark.filterwarnings("ignore")
def test_hugging_face_datasets_reads_them(
    tars: list[Path], samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    files = [str(path) for path in tars]
    pictures = {name for members in samples.values() for name in members if name != "json"}
    # samples differ in their members, of which datasets would have to guess from the first five
    kinds = {"__key__": datasets.Value("string"), "json": datasets.Json()}
    features = datasets.Features({**kinds, **dict.fromkeys(sorted(pictures), datasets.Image(decode=False))})
    loaded = datasets.load_dataset(
        "webdataset", data_files=files, split="train", cache_dir=str(tmp_path), features=features
    )
    rows = {row["__key__"]: row for row in loaded}
    assert rows.keys() == samples.keys()
    for key, members in samples.items():
        there = {name: rows[key][name]["bytes"] for name in pictures if rows[key][name]}
        assert there == {name: data for name, data in members.items() if name != "json"}
        said, ours = rows[key]["json"], json.loads(members["json"])  # theirs has ten decimals
        assert (said["caption"], said["prompt"], said["image"]) == (ours["caption"], ours["prompt"], ours["image"])


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.filterwarnings("ignore")
def test_ray_data_reads_them(tars: list[Path], samples: Samples) -> None:
    import ray

    read: Any = ray.data.read_webdataset([str(path) for path in tars], decoder=None)
    found = {row["__key__"]: row for row in read.take_all()}
    assert found.keys() == samples.keys()
    for key, members in samples.items():
        there = {name: value for name, value in found[key].items() if isinstance(value, bytes)}
        assert there == members


@pytest.fixture
def img2dataset_tar(tmp_path: Path) -> Path:
    """A tar as img2dataset 1.47.0 writes it: by webdataset's writer, members sorted by name, JSON indented by four.

    Source: ``WebDatasetSampleWriter`` in its ``writer.py``; the key is the shard in five digits and the row in four.
    """
    writing = pytest.importorskip("webdataset.writer")
    path = tmp_path / "00000.tar"
    with path.open("wb") as file:
        tar = writing.TarWriter(file)
        for row, caption in enumerate(["a red hat", "", "a schöner Hut"]):
            key = f"00000{row:04d}"
            picture = draw_record(key, 96, 64 + row).image
            assert picture
            tar.write(
                {"__key__": key, "jpg": picture.data, "txt": caption, "json": json.dumps(facts(key, caption), indent=4)}
            )
        tar.close()
    return path


def facts(key: str, caption: str) -> dict[str, Any]:
    """What img2dataset says of a picture, in its order."""
    return {
        **{"caption": caption, "url": f"http://127.0.0.1/{key}.jpg", "key": key, "status": "success"},
        **{"error_message": None, "width": 96, "height": 64, "original_width": 192, "original_height": 128},
        **{"exif": "{}", "sha256": "0" * 64},
    }


def test_tars_of_img2dataset_are_read_by_us(img2dataset_tar: Path) -> None:
    members = dict(plain_members(img2dataset_tar))
    assert list(members)[:3] == ["000000000.jpg", "000000000.json", "000000000.txt"]
    index = scan_tar(open_storage(str(img2dataset_tar.parent)), img2dataset_tar.name).to_pylist()
    data = img2dataset_tar.read_bytes()
    assert {f"{row['key']}.{row['member']}": data[row["offset"] :][: row["size"]] for row in index} == members
    assert {(row["width"], row["height"]) for row in index if row["member"] == "jpg"} == {(96, 64), (96, 65), (96, 66)}


def test_examples_of_img2dataset_have_picture_and_caption(img2dataset_tar: Path) -> None:
    read: Samples = {}
    for name, data in plain_members(img2dataset_tar):
        key, _, member = name.partition(".")
        read.setdefault(key, {})[member] = data
    examples = [parse_example(key, members, 96, 64) for key, members in read.items()]
    assert [example.caption for example in examples] == ["a red hat", "", "a schöner Hut"]
    assert all(example.image == "jpg" and not example.subjects for example in examples)
    assert examples[0].members["jpg"] == read["000000000"]["jpg"]
