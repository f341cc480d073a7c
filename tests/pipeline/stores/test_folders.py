"""Folders of pictures and COCO data sets in a store give the rows that they give on a disk."""

import dataclasses
import json
import pickle
from pathlib import Path

import pytest

from manifests.dag import CocoSource, FolderSource
from manifests.files import AnyPath, open_path, write_atomically
from manifests.record import Record
from pipeline.sources.base import Source, SourceError, Unit
from pipeline.sources.coco import Coco
from pipeline.sources.folder import Folder
from tests.pipeline.sources.reading import read_all, reasons, records
from tests.pipeline.stores.server import Fault, Proxy

FILES = {
    "b.JPG": b"picture b",
    "b.txt": b"\xef\xbb\xbfa caf\xc3\xa9\r\n",
    "sub/a b#1?.webp": b"picture a",
    "sub/.hidden.png": b"hidden",
    ".git/c.png": b"hidden",
    "notes.md": b"no picture",
    "empty.png": b"",
}
LINES = [
    {"file": "b.JPG", "caption": "one"},
    {"file": "../secret.jpg", "caption": "two"},
    {"file": "/etc/passwd", "caption": "three"},
    {"file": "gone.jpg", "caption": None},
    {"file": "nul\0.jpg", "caption": "four"},
]
CAPTIONS = {
    "images": [
        {"id": 2, "file_name": "b.JPG", "width": 100, "height": 50},
        {"id": 1, "file_name": "sub/gone.jpg"},
        {"id": 3, "file_name": "../notes.md"},
    ],
    "annotations": [{"id": 1, "image_id": 2, "caption": "a b"}],
}
INSTANCES = {
    "annotations": [{"id": 1, "image_id": 2, "category_id": 7, "bbox": [10, 10, 50, 25]}],
    "categories": [{"id": 7, "name": "cup"}],
}


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AnyPath:
    place: AnyPath = (
        request.getfixturevalue("place") if request.param == "s3" else open_path(f"memory://{tmp_path.name}")
    )
    return filled(place)


def filled(place: AnyPath) -> AnyPath:
    for name, data in FILES.items():
        write_atomically(place / "photos" / name, data)
    write_atomically(place / "captions.jsonl", "\n".join(map(json.dumps, LINES)).encode())
    write_atomically(place / "captions.json", json.dumps(CAPTIONS).encode())
    write_atomically(place / "instances.json", json.dumps(INSTANCES).encode())
    return place


def folder_at(place: AnyPath, captions: bool = False) -> Folder:
    jsonl = f"{place}/captions.jsonl" if captions else None
    return Folder(FolderSource(kind="folder", path=f"{place}/photos", captions=jsonl))


def coco_at(place: AnyPath) -> Coco:
    paths = {"images": f"{place}/photos", "captions": f"{place}/captions.json", "instances": f"{place}/instances.json"}
    return Coco(CocoSource.model_validate({"kind": "coco", **paths}))


def placeless(source: Source) -> list[tuple[Record, object]]:
    """The rows as a worker reads them, without their source's name."""
    rows = read_all(pickle.loads(pickle.dumps(source)))
    return [(dataclasses.replace(row.record, source=""), row.verdict) for row in rows]


@pytest.mark.parametrize("captions", [False, True])
def test_a_folder_has_the_rows_keys_and_verdicts_of_its_copy_on_a_disk(
    store: AnyPath, tmp_path: Path, captions: bool
) -> None:
    source, copy = folder_at(store, captions), folder_at(filled(tmp_path), captions)
    assert placeless(source) == placeless(copy)
    assert source.parts[0].name == f"{store}/photos" and source.parts[0].digest == copy.parts[0].digest
    assert len(pickle.dumps(source)) < 2000


def test_a_folder_gives_pictures_captions_and_why_there_is_none(store: AnyPath) -> None:
    found = {record.source_id: (record.original, record.alt_text) for record in records(read_all(folder_at(store)))}
    assert found == {
        "b.JPG": (b"picture b", "a café"),
        "empty.png": (b"", None),
        "sub/a b#1?.webp": (b"picture a", None),
    }
    rows = read_all(folder_at(store, captions=True))
    assert {row.record.source_id: row.verdict.reason for row in rows if row.verdict} == {
        "../secret.jpg": "unsafe_path",
        "/etc/passwd": "unsafe_path",
        "gone.jpg": "missing_file",
        "nul\0.jpg": "unsafe_path",
    }


def test_a_coco_data_set_has_the_rows_of_its_copy_on_a_disk(store: AnyPath, tmp_path: Path) -> None:
    source, copy = coco_at(store), coco_at(filled(tmp_path))
    assert placeless(source) == placeless(copy)
    rows = read_all(source)
    assert reasons(rows) == ["missing_file", None, "unsafe_path"]
    assert (rows[1].record.original, rows[1].record.alt_text) == (b"picture b", "a b")
    assert [annotation.phrase for annotation in rows[1].record.annotations] == ["cup"]


def test_what_has_changed_or_vanished_since_it_was_planned_stops_the_run(store: AnyPath) -> None:
    sources: list[Source] = [folder_at(store), coco_at(store)]
    write_atomically(store / "photos" / "b.JPG", b"another picture")
    for source in sources:
        with pytest.raises(SourceError, match="has changed since the run was planned"):
            read_all(pickle.loads(pickle.dumps(source)))
    (store / "photos" / "b.JPG").unlink()
    with pytest.raises(SourceError, match=r"b\.JPG: has changed"):
        sources[1].read(Unit(0, 0, 1, 2))


def test_a_url_without_files_is_refused_by_name(store: AnyPath) -> None:
    with pytest.raises(SourceError, match="nowhere/photos: no such folder; give the URL"):
        folder_at(store / "nowhere")
    with pytest.raises(SourceError, match=r"nowhere/captions\.json: cannot be read"):
        Coco(CocoSource(kind="coco", images=f"{store}/photos", captions=f"{store}/nowhere/captions.json"))


def test_faults_that_pass_cost_no_row_and_a_refusal_stops_the_run(place: AnyPath, proxy: Proxy) -> None:
    source = folder_at(filled(place))
    expected = placeless(source)
    proxy.faults = [Fault("503", count=50, every=3)]
    assert placeless(folder_at(place)) == expected
    assert proxy.faults[0].count < 50
    proxy.faults = [Fault("403", lambda method, path: path.endswith("b.JPG"), count=1000)]
    with pytest.raises(SourceError, match=r"b\.JPG: cannot be read: .*the store refuses"):
        read_all(source)
