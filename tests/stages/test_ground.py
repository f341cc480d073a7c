"""``ground`` with detectors: one that answers as told, and a whole tiny one with random weights."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from manifests.record import Annotation, Box, DroppedSubject, Picture, Subject
from stages.base import Context, Drop, ModelRef
from stages.ground import Ground, GroundOut, GroundParams
from stages.grounded import GroundIn
from stages.models.detector import Detections
from tests.stages.models.test_detector import IMAGES
from tests.stages.models.tiny_grounding_dino import save
from tests.stages.test_detected import record

ROW = (10.0, 10.0, 30.0, 60.0)


class Told:
    """Finds the same box for every phrase of a record, the first phrase best; notes what it was asked."""

    def __init__(self, score: float = 0.5) -> None:
        self.score = score
        self.asked: list[tuple[list[Picture], list[list[str]]]] = []

    def __call__(self, images: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        self.asked.append((list(images), [list(mine) for mine in phrases]))
        return [self._found(len(mine)) for mine in phrases]

    def _found(self, count: int) -> Detections:
        return Detections(np.array([ROW]), np.linspace(self.score, 0.1, count, endpoint=False)[None], {})


def detecting(**params: object) -> GroundParams:
    return GroundParams(backend="grounding_dino", model="none", **params)  # type: ignore[arg-type]


def test_the_detector_is_asked_once_for_all_records_and_once_for_a_phrase() -> None:
    detector = Told()
    records = [record("a dog and a cat", "dog", "cat"), record("nothing"), record("a Hat by a hat", "Hat", "hat")]
    results = Ground(detecting(), detector).process(records)
    assert detector.asked == [([mine.image for mine in records], [["dog", "cat"], [], ["hat"]])]
    assert [type(result) for result in results] == [GroundOut, Drop, GroundOut]


def test_grounded_subjects_stay_in_order_and_the_others_are_told_with_those_before() -> None:
    lost = DroppedSubject(phrase="it", stage="phrases", reason="not_a_noun")
    mine = replace(record("a dog and a cat", "dog", "cat"), dropped_subjects=(lost,))
    (result,) = Ground(detecting(), Told()).process([mine])
    assert isinstance(result, GroundOut)
    box = Box(x0=10, y0=10, x1=30, y1=60)
    assert [(subject.phrase, subject.box, subject.score) for subject in result.subjects] == [("dog", box, 0.5)]
    assert result.dropped_subjects == (lost, DroppedSubject(phrase="cat", stage="ground", reason="not_grounded"))


def test_a_record_of_which_nothing_is_found_is_dropped_and_says_what_was_sought() -> None:
    (result,) = Ground(detecting(), Told(0.2)).process([record("a dog and a cat", "dog", "cat")])
    assert result == Drop("no_subject_grounded", "dog: low_score, cat: low_score")


def test_the_metadata_is_not_looked_at_by_a_detector() -> None:
    annotation = Annotation(phrase="dog", x0=0.5, y0=0.5, x1=0.6, y1=0.6)
    mine = record("a dog", "dog")
    detect, read = Ground(detecting(), Told()), Ground(GroundParams())
    found = [stage.process([replace(mine, annotations=(annotation,))])[0] for stage in (detect, read)]
    assert [out.subjects[0].box.x0 for out in found if isinstance(out, GroundOut) and out.subjects[0].box] == [10, 100]


def test_a_subject_found_at_another_place_loses_what_was_cut_at_the_old_one() -> None:
    mine = record("a dog", "dog")
    crop = mine.image
    old = replace(mine.subjects[0], crop=crop, crop_key="other", head_crop=crop)
    for box, wanted in (
        (Box(x0=0, y0=0, x1=9, y1=9), (None, None, None)),
        (Box(x0=10, y0=10, x1=30, y1=60), (crop, "other", crop)),
    ):
        before = replace(old, box=box, head_box=box)
        (result,) = Ground(detecting(), Told()).process([replace(mine, subjects=(before,))])
        assert isinstance(result, GroundOut)
        (after,) = result.subjects
        assert (after.crop, after.crop_key, after.head_crop) == wanted


@pytest.mark.parametrize(
    "settings",
    [
        {"backend": "grounding_dino"},
        {"backend": "metadata", "model": "folder"},
        {"backend": "grounding_dino_native", "model": "file.pth"},
        {"backend": "grounding_dino", "model": "folder", "text_encoder": "bert"},
        {"backend": "grounding_dino", "model": "folder", "box_threshold": 1.5},
        {"backend": "grounding_dino", "model": "folder", "max_boxes_per_phrase": 0},
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GroundParams(**settings)  # type: ignore[arg-type]


def test_it_wants_the_models_that_its_backend_needs() -> None:
    assert Ground.wants(GroundParams()) == ()
    assert Ground.wants(GroundParams(backend="grounding_dino", model="a/b", revision="c")) == (
        ModelRef(name="a/b", revision="c"),
    )
    native = GroundParams(
        backend="grounding_dino_native", model="file.pth", text_encoder="a/b", text_encoder_revision="c"
    )
    checkpoint, bert = Ground.wants(native)
    assert checkpoint == ModelRef(name="file.pth")
    assert (bert.name, bert.revision) == ("a/b", "c") and "config.json" in bert.files


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder: Path = tmp_path_factory.mktemp("detector")
    save(folder)
    settings = GroundParams(
        backend="grounding_dino", model=str(folder), images_per_call=3, box_threshold=0.9, text_threshold=0.5
    )
    return Ground.load(settings, Context())


def records() -> list[GroundIn]:
    long = "red " * 2500 + "dog"
    captions = [
        record("a red dog and a cat", "red dog", "cat"),
        record("a ball by a ball", "ball", "ball"),
        record("dogs, a hat and a 苹果", "dogs", "hat", "苹果", plural=["dogs"]),
        record(f"a {long} with a hat", long, "hat"),
        record("a man in a striped shirt", "man in a striped shirt", "striped shirt"),
        record("a zebra", "zebra"),
        record("nothing"),
        record("a star? a St. Bernard!", "star?", "St. Bernard"),
    ]
    return [replace(mine, image=image) for mine, image in zip(captions, IMAGES, strict=True)]


def test_the_tiny_network_gives_the_same_one_by_one_and_in_any_order(stage: Ground) -> None:
    mine = records()
    together = stage.process(mine)
    alone = [stage.process([one])[0] for one in mine]
    turned = stage.process(mine[::-1])[::-1]
    for one, other, third in zip(together, alone, turned, strict=True):
        assert summary(one) == summary(other) == summary(third)
    assert sum(isinstance(result, GroundOut) for result in together) >= 3


def summary(result: object) -> object:
    """What was decided, with boxes to a hundredth of a pixel."""
    if not isinstance(result, GroundOut):
        return result
    boxes = [(subject.phrase, tuple(round(side, 2) for side in _box(subject).xyxy)) for subject in result.subjects]
    return boxes, result.dropped_subjects


def _box(subject: Subject) -> Box:
    assert subject.box
    return subject.box


def test_the_tiny_network_keeps_its_boxes_in_the_picture_and_gives_reasons(stage: Ground) -> None:
    mine = records()
    lost: dict[str, str] = {}
    for one, result in zip(mine, stage.process(mine), strict=True):
        if isinstance(result, Drop):
            continue
        lost |= {dropped.phrase[:9]: dropped.reason for dropped in result.dropped_subjects}
        for subject in result.subjects:
            x0, y0, x1, y1 = _box(subject).xyxy
            assert 0 <= x0 < x1 <= one.image.width and 0 <= y0 < y1 <= one.image.height
    assert lost["苹果"] == "unknown_words" and lost["red red r"] == "phrase_too_long"
    assert stage.process(mine[5:7]) == [
        Drop("no_subject_grounded", "zebra: unknown_words"),
        Drop("no_subject_grounded"),
    ]
    assert set(lost.values()) <= set(Ground.reasons)
