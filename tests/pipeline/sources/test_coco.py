"""COCO data sets."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manifests.dag import CocoSource
from manifests.record import Keypoint
from pipeline.sources.base import SourceError, Unit
from pipeline.sources.coco import Coco
from pipeline.sources.coco_objects import _mask
from stages.masks import decode_mask, mask_area
from tests.pipeline.sources.reading import read_all, reasons, records

IMAGES = [
    {"id": 20, "file_name": "b.jpg", "width": 100, "height": 50, "coco_url": "http://coco/b.jpg"},
    {"id": 3, "file_name": "sub/a.jpg", "width": 10, "height": 20},
]
CAPTIONS = [
    {"id": 9, "image_id": 20, "caption": "second of b"},
    {"id": 7, "image_id": 3, "caption": "first of a"},
    {"id": 8, "image_id": 20, "caption": "first of b"},
]
POLYGON = [[10.0, 10.0, 60.0, 10.0, 60.0, 35.0, 10.0, 35.0]]
RUNS = {"size": [50, 100], "counts": [0, 500, 4500]}
OBJECTS = [
    {"id": 2, "image_id": 20, "category_id": 1, "bbox": [0, 0, 10, 50], "segmentation": RUNS, "iscrowd": 1},
    {"id": 1, "image_id": 20, "category_id": 18, "bbox": [10, 10, 50, 25], "segmentation": POLYGON, "iscrowd": 0},
]
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small data set in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images/sub").mkdir(parents=True)
    (tmp_path / "images/b.jpg").write_bytes(b"picture b")
    (tmp_path / "images/sub/a.jpg").write_bytes(b"picture a")
    write("captions.json", images=IMAGES, annotations=CAPTIONS)
    write("instances.json", images=IMAGES, annotations=OBJECTS, categories=CATEGORIES)
    return tmp_path


def write(name: str, **content: Any) -> None:
    Path(name).write_text(json.dumps(content))


def opened(**settings: Any) -> Coco:
    return Coco(CocoSource(**{"kind": "coco", "images": "images", "captions": "captions.json"} | settings))


def test_rows_are_images_by_id_with_their_first_caption_and_their_bytes() -> None:
    source = opened()
    a, b = records(read_all(source))
    assert (a.source, a.source_id, a.url, a.alt_text) == ("captions.json", "3", None, "first of a")
    assert (b.source_id, b.url, b.alt_text) == ("20", "http://coco/b.jpg", "first of b")
    assert (b.stated_width, b.stated_height) == (100, 50)
    assert (b.original, b.sha256) == (b"picture b", hashlib.sha256(b"picture b").hexdigest())
    fields = {"source_id", "url", "alt_text", "stated_width", "stated_height", "original", "sha256"}
    assert source.gives == fields
    assert opened(instances="instances.json").gives == fields | {"annotations"}


PERSON = {"id": 1, "name": "person", "keypoints": ["nose", "left_eye", "right_eye", "left_ear"]}
KEYPOINTS = [
    {**OBJECTS[0], "id": 3, "iscrowd": 0, "keypoints": [4, 9, 2, 5.5, 8, 1, 0, 0, 0, 99, 49, 2]},
    {**OBJECTS[0], "id": 2, "keypoints": [0] * 12},
]


def test_people_get_their_keypoints_and_stand_once_though_in_two_files() -> None:
    write("people.json", annotations=KEYPOINTS, categories=[PERSON])
    source = opened(instances="instances.json", keypoints="people.json")
    _, b = records(read_all(source))
    dog, crowd, person = b.annotations
    assert (dog.phrase, dog.keypoints, crowd.is_crowd, crowd.keypoints) == ("dog", (), True, ())
    assert person.keypoints == (
        Keypoint(name="nose", x=4.5 / 100, y=9.5 / 50, is_visible=True),
        Keypoint(name="left_eye", x=6 / 100, y=8.5 / 50, is_visible=False),
        Keypoint(name="left_ear", x=99.5 / 100, y=49.5 / 50, is_visible=True),
    )
    (_, alone) = records(read_all(opened(keypoints="people.json")))
    assert alone.annotations == b.annotations[1:]
    assert len({s.fingerprint for s in (source, opened(instances="instances.json"), opened())}) == 3


@pytest.mark.parametrize(
    "keypoints", [[], [1, 2], [1, 2, 2] * 5, [float("nan"), 2, 2] * 4, [1e30, 0, 2] * 4, [-1, 0, 2] * 4, [1, 2, 7] * 4]
)
def test_damaged_keypoints_leave_the_box(keypoints: list[float]) -> None:
    write("people.json", annotations=[{**KEYPOINTS[0], "keypoints": keypoints}], categories=[PERSON])
    _, b = records(read_all(opened(keypoints="people.json")))
    (person,) = b.annotations
    assert person.keypoints == () and person.mask is not None


def test_files_that_name_a_category_differently_are_refused() -> None:
    write("people.json", annotations=KEYPOINTS, categories=[{**PERSON, "name": "dog"}])
    refused("category 1 is 'dog', in .*instances.json 'person'", instances="instances.json", keypoints="people.json")
    refused(r"none\.json: cannot be read", keypoints="none.json")


def test_more_captions_an_image_are_more_rows_in_the_order_of_their_ids() -> None:
    captions = [record.alt_text for record in records(read_all(opened(captions_per_image=2)))]
    assert captions == ["first of a", "first of b", "second of b"]
    assert opened(captions_per_image=2).fingerprint != opened().fingerprint


def test_an_image_without_caption_is_a_row_without_one() -> None:
    write("captions.json", images=IMAGES, annotations=CAPTIONS[:1])
    assert [record.alt_text for record in records(read_all(opened()))] == [None, "second of b"]


def test_objects_become_annotations_with_boxes_in_fractions_and_masks() -> None:
    a, b = records(read_all(opened(instances="instances.json")))
    assert a.annotations == ()
    dog, crowd = b.annotations
    assert (dog.phrase, dog.span, dog.score, dog.is_crowd) == ("dog", None, None, False)
    assert (dog.x0, dog.y0, dog.x1, dog.y1) == (0.1, 0.2, 0.6, 0.7)
    assert dog.mask is not None
    assert (dog.mask.width, dog.mask.height, mask_area(dog.mask)) == (100, 50, 50 * 25)
    assert (crowd.phrase, crowd.is_crowd) == ("person", True)
    assert crowd.mask is not None
    assert np.array_equal(np.flatnonzero(decode_mask(crowd.mask).any(axis=0)), np.arange(10))


@pytest.mark.parametrize(
    "segmentation", [None, [], [[1, 2, "x"]], [[1, 2, 3]], {"counts": [1]}, {**RUNS, "size": [5, 5]}]
)
def test_a_mask_that_is_missing_or_damaged_leaves_the_box(segmentation: Any) -> None:
    write("i.json", annotations=[{**OBJECTS[0], "segmentation": segmentation}], categories=CATEGORIES)
    _, b = records(read_all(opened(instances="i.json")))
    (annotation,) = b.annotations
    assert annotation.mask is None


@pytest.mark.parametrize("box", [[0, 0, 0, 10], [5, 5, 10, -3], [200, 0, 10, 10]])
def test_a_box_without_area_in_the_picture_is_left_out(box: list[float]) -> None:
    write("i.json", annotations=[{**OBJECTS[0], "bbox": box}, OBJECTS[1]], categories=CATEGORIES)
    _, b = records(read_all(opened(instances="i.json")))
    assert [annotation.phrase for annotation in b.annotations] == ["dog"]


def test_a_box_that_sticks_out_is_cut_at_the_picture() -> None:
    write("i.json", annotations=[{**OBJECTS[0], "bbox": [-5, 25, 200, 100]}], categories=CATEGORIES)
    (annotation,) = records(read_all(opened(instances="i.json")))[1].annotations
    assert (annotation.x0, annotation.y0, annotation.x1, annotation.y1) == (0, 0.5, 1, 1)


def test_a_missing_image_and_a_name_that_leads_out_fail_their_rows_alone(data: Path) -> None:
    (data / "secret.jpg").write_bytes(b"secret")
    hostile = [{"id": n, "file_name": name} for n, name in enumerate(["../secret.jpg", "gone.jpg", "/etc/passwd"])]
    write("captions.json", images=[*IMAGES, *hostile], annotations=CAPTIONS)
    rows = read_all(opened())
    assert reasons(rows) == ["unsafe_path", "missing_file", "unsafe_path", None, None]
    assert all(row.record.original is None for row in rows if row.verdict)


def test_files_put_in_each_other_s_place_are_told_with_the_kind_that_belongs_there() -> None:
    with pytest.raises(SourceError, match=r"^\S*instances\.json: .*; give COCO's JSON of captions there$"):
        opened(captions="instances.json")
    with pytest.raises(SourceError, match=r"^\S*captions\.json: .*; give COCO's JSON of instances or keypoints there$"):
        opened(instances="captions.json")


def test_captions_of_images_that_are_not_listed_are_no_rows() -> None:
    write("captions.json", images=IMAGES[:1], annotations=CAPTIONS)
    assert [record.source_id for record in records(read_all(opened()))] == ["20"]


def test_what_goes_to_workers_stays_small() -> None:
    entries = [{"id": n, "image_id": 20, "caption": "words " * 20} for n in range(2000)]
    write("captions.json", images=IMAGES, annotations=entries)
    assert len(pickle.dumps(opened(instances="instances.json"))) < 2000


def test_the_fingerprint_follows_annotations_and_files_and_not_the_place(
    data: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = [opened().fingerprint, opened(instances="instances.json").fingerprint]
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(data, elsewhere)
    monkeypatch.chdir(elsewhere)
    assert opened().fingerprint == seen[0]
    write("instances.json", annotations=OBJECTS[:1], categories=CATEGORIES)
    seen.append(opened(instances="instances.json").fingerprint)
    Path("images/b.jpg").write_bytes(b"another picture")
    seen.append(opened().fingerprint)
    write("captions.json", images=IMAGES, annotations=CAPTIONS[:2])
    seen.append(opened().fingerprint)
    assert len(set(seen)) == 5


def test_annotations_changed_after_planning_are_an_error_when_read() -> None:
    source = opened()
    source.read(Unit(0, 0, 0, 2))
    write("captions.json", images=IMAGES, annotations=CAPTIONS[:2])
    opened()
    with pytest.raises(SourceError, match="has changed"):
        source.read(Unit(0, 0, 0, 2))


def refused(needle: str, **settings: Any) -> None:
    with pytest.raises(SourceError, match=needle):
        opened(**settings)


def test_missing_files_and_folders_are_refused_by_name() -> None:
    refused("nowhere: no such folder", images="nowhere")
    refused(r"none\.json: cannot be read", captions="none.json")
    refused(r"none\.json: cannot be read", instances="none.json")


@pytest.mark.parametrize(
    ("content", "needle"),
    [
        ({"images": IMAGES}, r"captions\.json: annotations: Field required"),
        ({"images": [{"id": "x", "file_name": "b.jpg"}], "annotations": []}, r"images\.0\.id: .* got 'x'"),
        ({"images": IMAGES, "annotations": [{"id": 1, "image_id": 3}]}, r"annotations\.0\.caption"),
        ({"images": [*IMAGES, IMAGES[0]], "annotations": []}, "1 image ids stand twice"),
        ({"images": [], "annotations": []}, "lists no images"),
    ],
)
def test_json_that_is_not_coco_is_refused_with_its_place(content: Mapping[str, Any], needle: str) -> None:
    write("captions.json", **content)
    refused(needle)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": [], "annotations": "\\ud800"}', "\xff"])
def test_what_is_no_json_is_refused_by_name(text: str) -> None:
    Path("captions.json").write_bytes(text.encode("latin-1"))
    refused(r"captions\.json: ")


def test_a_category_that_is_not_listed_is_refused() -> None:
    write("i.json", annotations=OBJECTS, categories=CATEGORIES[:1])
    refused("annotation 1 is of category 18, which is not listed", instances="i.json")


@pytest.mark.parametrize("segmentation", [{"size": [40, 60], "counts": [10**30]}, [[1, 2, 3, 4, 5, 10**400]]])
def test_a_mask_of_absurd_numbers_is_a_mask_less(segmentation: object) -> None:
    assert _mask(json.loads(json.dumps(segmentation)), 40, 60) is None
