from dataclasses import replace

import numpy as np
import pytest

from manifests.dag import parse_manifest
from manifests.prompt import Insertion
from manifests.record import Feature, ModelUse, Picture, Point, Record, Row
from pipeline.actor import Work, Worker
from pipeline.plan import bind
from pipeline.sources.base import Unit
from stages.features import FaceIn, content_hash, pack
from stages.interleave import choose, interleave
from stages.outdated import without_outdated
from tests.training.stream.make import draw_record, with_features

SELECT = """
name: again
source: {kind: shards, path: none}
nodes:
- {id: select, stage: select, params: {min_score: 0.3, min_area: 0, min_side: 1, max_aspect: 10}}
"""
WROTE_SUBJECTS = frozenset({"subjects", "dropped_subjects"})


def made(insertion: Insertion = "replace") -> Record:
    """Three subjects, features of all, and a prompt."""
    record = with_features(draw_record(subjects=3))
    assert record.caption and record.subjects
    places = choose([subject.span for subject in record.subjects])
    return replace(record, prompt=interleave(record.caption, places, insertion))


def without(record: Record, number: int) -> Record:
    assert record.subjects
    return replace(record, subjects=record.subjects[:number] + record.subjects[number + 1 :])


def by_name(record: Record) -> dict[str, str]:
    return {feature.name: feature.content for feature in record.features}


def feature(name: str, given: str | Picture | FaceIn) -> Feature:
    return pack(name, content_hash(given), ModelUse(name="drawn", revision="1"), np.zeros(3, np.float32), "float32")


@pytest.mark.parametrize("gone", range(3))
def test_features_of_a_lost_subject_go_and_those_of_the_others_follow_their_numbers(gone: int) -> None:
    before = made()
    after = without_outdated(without(before, gone), WROTE_SUBJECTS)
    assert after.subjects
    contents = by_name(after)
    for number, subject in enumerate(after.subjects):
        assert subject.crop and contents.pop(f"subject{number}_bigg_vector") == content_hash(subject.crop)
    assert contents == {name: content for name, content in by_name(before).items() if "subject" not in name}


def test_a_subject_cut_anew_loses_its_features_alone() -> None:
    before = made()
    assert before.subjects
    cut = replace(before.subjects[1], crop=before.subjects[0].head_crop)
    after = without_outdated(replace(before, subjects=(before.subjects[0], cut, before.subjects[2])), WROTE_SUBJECTS)
    assert by_name(before).keys() - by_name(after).keys() == {"subject1_bigg_vector"}
    assert after.prompt == before.prompt


def test_alike_crops_keep_a_feature_each() -> None:
    before = made()
    assert before.subjects and before.subjects[0].crop
    first, alike = before.subjects[0], replace(before.subjects[1], crop=before.subjects[0].crop)
    features = tuple(feature(f"subject{number}_a_vector", before.subjects[0].crop) for number in range(2))
    record = replace(before, subjects=(first, alike), features=features)
    assert without_outdated(record, WROTE_SUBJECTS).features == features


@pytest.mark.parametrize("field", ["caption", "image", "controls", "faces", "regions"])
def test_features_of_what_a_step_has_changed_go(field: str) -> None:
    record = made()
    assert record.faces and record.faces[0].crop and record.regions and record.regions[0].crop
    features = feature("face0_a_vector", record.faces[0].crop), feature("region0_a_vector", record.regions[0].crop)
    record = replace(record, features=record.features + features)
    other = draw_record("another", 80, 72)
    changes = {"caption": "a cat", "image": other.image, "controls": other.controls}
    changes |= {"faces": other.faces, "regions": other.regions}
    after = without_outdated(replace(record, **{field: changes[field]}), frozenset({field}))
    lost = {"caption": "caption", "image": "image", "controls": "canny", "faces": "face0", "regions": "region0"}[field]
    gone = by_name(record).keys() - by_name(after).keys()
    assert gone and {name.partition("_")[0] for name in gone} == {lost}


def test_an_aligned_face_is_known_by_its_landmarks() -> None:
    record = made()
    assert record.faces and record.image
    face = replace(record.faces[0], landmarks=tuple(Point(x=n, y=n * n) for n in range(5)))
    of_face = feature("face0_adaface_vector", FaceIn(record.image, face.landmarks))
    kept = without_outdated(replace(record, faces=(face,), features=(of_face,)), frozenset({"faces"}))
    assert kept.features == (of_face,)
    moved = replace(face, landmarks=(Point(x=9, y=9), *face.landmarks[1:]))
    assert not without_outdated(replace(record, faces=(moved,), features=(of_face,)), frozenset({"faces"})).features


def test_features_of_what_is_not_known_here_stay() -> None:
    record = replace(made(), features=(feature("weather_a_vector", "rain"),))
    assert without_outdated(record, WROTE_SUBJECTS).features == record.features


@pytest.mark.parametrize("insertion", ["replace", "before", "feature", "side"])
def test_a_prompt_goes_with_what_it_points_at(insertion: Insertion) -> None:
    record = made(insertion)
    assert without_outdated(record, WROTE_SUBJECTS).prompt == record.prompt
    assert without_outdated(without(record, 0), WROTE_SUBJECTS).prompt is None
    assert without_outdated(without(record, 2), WROTE_SUBJECTS).prompt is None
    assert without_outdated(replace(record, caption="a cat"), frozenset({"caption"})).prompt is None
    assert record.subjects
    uncut = tuple(replace(subject, crop=None) for subject in record.subjects)
    assert without_outdated(replace(record, subjects=uncut), WROTE_SUBJECTS).prompt is None


def test_a_prompt_is_not_passed_on_to_another_subject_of_the_same_words() -> None:
    record = draw_record(subjects=1)
    caption = "a man and a man"
    assert record.subjects
    first = record.subjects[0]
    later = replace(first, span=replace(first.span, start=12, end=15), head_span=replace(first.span, start=12, end=15))
    prompt = interleave(caption, choose([first.span]), "replace")
    record = replace(record, caption=caption, subjects=(first, later), prompt=prompt)
    assert without_outdated(record, WROTE_SUBJECTS).prompt == prompt
    assert without_outdated(without(record, 0), WROTE_SUBJECTS).prompt is None


def test_the_engine_keeps_no_features_of_subjects_that_a_later_step_drops() -> None:
    record = made()
    assert record.subjects
    record = replace(record, subjects=(replace(record.subjects[0], score=0.1), *record.subjects[1:]))
    plan = bind(
        parse_manifest(SELECT, "again.yaml"),
        frozenset({"image", "caption", "subjects", "subjects.box"} | {"subjects.head"}),
    )
    work = Work(unit=Unit(number=0, part=0, start=0, stop=1), rows=(Row(record=record),))
    (row,) = Worker(plan, plan.groups[0]).run(work).rows
    assert row.verdict is None and row.record.subjects and len(row.record.subjects) == 2
    contents = by_name(row.record)
    for number, subject in enumerate(row.record.subjects):
        assert subject.crop and contents[f"subject{number}_bigg_vector"] == content_hash(subject.crop)
    assert "subject2_bigg_vector" not in contents and row.record.prompt is None
