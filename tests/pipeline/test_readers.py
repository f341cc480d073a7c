"""Shards of the shipped COCO manifest, read by everybody else's readers with the same bytes."""

import gc
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manifests.prompt import InterleavedPrompt
from manifests.shard import read_index, record_from_members
from pipeline.ledger import Layout
from pipeline.verify import verify
from stages.masks import decode_mask
from stages.pixels import read_picture
from tests.drawn import PICTURES, run_coco

Samples = dict[str, dict[str, bytes]]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return run_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module")
def samples(layout: Layout) -> Samples:
    """Bytes by key and member, as Python's own tarfile reads them."""
    found: Samples = {}
    for name in layout.committed():
        with tarfile.open(layout.tar(name)) as tar:
            for info in tar:
                key, _, member = info.name.partition(".")
                file = tar.extractfile(info)
                assert file is not None
                found.setdefault(key, {})[member] = file.read()
    return found


def test_the_shipped_manifest_makes_prompts_with_their_subject(layout: Layout, samples: Samples) -> None:
    assert verify(layout) == ([], 2, 2)
    assert len(samples) == PICTURES
    for members in samples.values():
        assert list(members) == ["jpg", "subject0.jpg", "subject0.mask.png", "canny.png", "json"]
        record = record_from_members(members)
        assert record.prompt and record.prompt.caption == record.caption == "A red ball lies on a green field."
        assert record.prompt == InterleavedPrompt.from_plain(json.loads(members["json"])["prompt"])
        assert [image.member for image in record.prompt.images] == ["subject0"]
        assert record.prompt.render() == "A <subject0> lies on a green field."


def test_the_subject_is_where_its_mask_and_crop_say(samples: Samples) -> None:
    for members in samples.values():
        record = record_from_members(members)
        assert record.image and record.subjects
        (subject,) = record.subjects
        assert subject.mask and subject.crop and subject.box
        red = read_picture(record.image)[..., 0] > 120
        mask = decode_mask(subject.mask)
        assert (mask & red).sum() / (mask | red).sum() > 0.95
        middle = read_picture(subject.crop)[subject.crop.height // 2, subject.crop.width // 2]
        assert middle[0] > 150 and middle[1] < 80
        assert abs(subject.crop.width / subject.crop.height - 1) < 0.1


def test_tar_lists_and_extracts_the_same(layout: Layout, samples: Samples, tmp_path: Path) -> None:
    for name in layout.committed():
        subprocess.run(["tar", "xf", str(layout.tar(name)), "-C", str(tmp_path)], check=True)
    extracted = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert extracted == {f"{key}.{name}": data for key, members in samples.items() for name, data in members.items()}


def test_the_index_reads_every_member_without_the_tar_s_headers(layout: Layout, samples: Samples) -> None:
    found: Samples = {}
    for name in layout.committed():
        data = layout.tar(name).read_bytes()
        for row in read_index(layout.index(name)).to_pylist():
            found.setdefault(row["key"], {})[row["member"]] = data[row["offset"] : row["offset"] + row["size"]]
    assert found == samples


@pytest.fixture
def careless_reader() -> Iterator[None]:
    """Collect here what a library leaves open, so that it is not taken for ours later."""
    yield
    gc.collect()


@pytest.mark.usefixtures("careless_reader")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_same(layout: Layout, samples: Samples) -> None:
    import webdataset

    tars = [str(layout.tar(name)) for name in layout.committed()]
    found = {
        sample["__key__"]: {name: data for name, data in sample.items() if not name.startswith("__")}
        for sample in webdataset.WebDataset(tars, shardshuffle=False)
    }
    assert found == samples


@pytest.mark.usefixtures("careless_reader")
@pytest.mark.filterwarnings("ignore")
def test_hugging_face_datasets_reads_the_same(
    layout: Layout, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    tars = [str(layout.tar(name)) for name in layout.committed()]
    loaded = datasets.load_dataset("webdataset", data_files=tars, split="train", cache_dir=str(tmp_path))
    for name, feature in loaded.features.items():
        if isinstance(feature, datasets.Image):
            loaded = loaded.cast_column(name, datasets.Image(decode=False))
    found = {row["__key__"]: dict(_pictures(row)) for row in loaded}
    assert found == {
        key: {name: data for name, data in members.items() if name != "json"} for key, members in samples.items()
    }
    for row in loaded:
        assert row["json"]["caption"] == json.loads(samples[row["__key__"]]["json"])["caption"]


def _pictures(row: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    for name, value in row.items():
        if not name.startswith("__") and name != "json":
            yield name, value["bytes"]
