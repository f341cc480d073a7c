import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from manifests.record import Control, Point, Record
from stages.features import FaceIn, content_hash, pack, values_of
from stages.pixels import write_png
from tests.training.stream.make import MODEL, draw_record, example_of, with_features
from training.stream.example import Example, SampleError
from training.stream.features import read_features

RECORD = with_features(draw_record())
EXAMPLE = example_of(RECORD)
OTHER = write_png(np.full((9, 9, 3), 200, np.uint8))
NAME = "caption_bigg_states"
MEMBER = f"{NAME}.safetensors"


def damaged(data: bytes) -> Example:
    return replace(EXAMPLE, members={**EXAMPLE.members, MEMBER: data})


@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16"])
def test_features_are_read_as_the_engine_wrote_them(storage):
    record = with_features(draw_record(), storage)
    names = tuple(feature.name for feature in record.features)
    found = read_features(example_of(record), names)
    assert tuple(found) == names
    for feature in record.features:
        assert np.array_equal(found[feature.name], values_of(feature))
        assert found[feature.name].dtype == (np.float16 if storage == "float16" else np.float32)


def test_a_feature_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(SampleError, match=r"caption_t5_states.*caption_bigg_pooled") as error:
        read_features(EXAMPLE, ("caption_t5_states",))
    assert error.value.reason == "missing_feature"


def test_features_that_are_not_there_are_told_with_the_nodes_that_make_them():
    wanted = ("caption_l14_states", "caption_l14_pooled", "image_l14_vector", "subject0_l14_vector", "mine")
    with pytest.raises(SampleError) as error:
        read_features(EXAMPLE, wanted)
    assert str(error.value).endswith(
        "name those in the recipe, or let embed nodes with {name: l14, of: [caption], outputs: [states, pooled]} and "
        "{name: l14, of: [image, subjects], outputs: [vector]} of the manifest make them"
    )


@pytest.mark.parametrize("field", ["model", "revision"])
def test_a_feature_of_something_else_than_the_json_says_is_refused(field):
    changed = tuple(replace(part, **{field: "another"}) for part in EXAMPLE.features)
    with pytest.raises(SampleError, match="another") as error:
        read_features(replace(EXAMPLE, features=changed), ("image_bigg_vector",))
    assert error.value.reason == "bad_feature"


def test_a_file_of_another_content_than_the_json_says_is_refused():
    file = pack(NAME, content_hash("another"), MODEL, np.ones(4, np.float32), "float32").data
    with pytest.raises(SampleError, match=content_hash("another")) as error:
        read_features(damaged(file), (NAME,))
    assert error.value.reason == "bad_feature"


def test_features_of_a_caption_that_was_changed_since_are_refused():
    changed = example_of(dataclasses.replace(RECORD, caption="Another text"))
    with pytest.raises(SampleError, match="of another text than the caption 'Another text'") as error:
        read_features(changed, (NAME,))
    assert error.value.reason == "other_content"
    assert read_features(changed, ("image_bigg_vector",))


def _changed(record: Record, part: str) -> Record:
    """The record with another picture there than its features were made of."""
    assert record.subjects is not None
    match part:
        case "image":
            return dataclasses.replace(record, image=OTHER)
        case "canny":
            return dataclasses.replace(record, controls=(Control(kind="canny", picture=OTHER), *record.controls[1:]))
        case _:
            subject = dataclasses.replace(record.subjects[0], crop=OTHER)
            return dataclasses.replace(record, subjects=(subject, *record.subjects[1:]))


@pytest.mark.parametrize("part", ["image", "canny", "subject0"])
def test_features_of_a_picture_that_was_changed_since_are_refused(part):
    changed = example_of(_changed(RECORD, part))
    with pytest.raises(SampleError, match=f"of another picture than the sample's {part}") as error:
        read_features(changed, (f"{part}_bigg_vector",))
    assert error.value.reason == "other_content"
    assert read_features(changed, (NAME, "subject1_bigg_vector"))


def test_features_of_faces_are_held_against_crops_or_the_image_with_landmarks_and_of_heads_and_regions_against_crops():
    record = draw_record()
    assert record.image and record.subjects and record.faces and record.regions
    landmarks = tuple(Point(x=n + 0.5, y=n * n) for n in range(5))
    face = dataclasses.replace(record.faces[0], landmarks=landmarks)
    record = dataclasses.replace(record, faces=(face,))
    given = {
        "face0_ada_vector": FaceIn(record.image, landmarks),
        "face0_clip_vector": face.crop,
        "head0_clip_vector": record.subjects[0].head_crop,
        "region1_clip_vector": record.regions[1].crop,
    }
    values = np.ones(4, np.float32)
    features = tuple(pack(name, content_hash(of), MODEL, values, "float32") for name, of in given.items() if of)
    assert set(read_features(example_of(dataclasses.replace(record, features=features)), tuple(given))) == set(given)
    others = tuple(pack(name, content_hash(OTHER), MODEL, values, "float32") for name in given)
    for name in given:
        with pytest.raises(SampleError, match=f"{name} is of another picture"):
            read_features(example_of(dataclasses.replace(record, features=others)), (name,))


@given(st.integers(0, len(EXAMPLE.members[MEMBER]) - 1))
def test_a_feature_cut_short_is_refused(length):
    with pytest.raises(SampleError) as error:
        read_features(damaged(EXAMPLE.members[MEMBER][:length]), (NAME,))
    assert error.value.reason == "bad_feature"


@settings(max_examples=300)
@given(st.integers(0, len(EXAMPLE.members[MEMBER]) - 1), st.integers(0, 255))
def test_a_damaged_feature_is_refused_or_read_and_nothing_else(place, value):
    data = bytearray(EXAMPLE.members[MEMBER])
    data[place] = value
    try:
        found = read_features(damaged(bytes(data)), (NAME,))
    except SampleError as error:
        assert error.reason == "bad_feature"
    else:
        assert isinstance(found[NAME], np.ndarray)


@pytest.mark.parametrize("model", [MODEL.name, f"{MODEL.name}@{MODEL.revision}", ("another", MODEL.name)])
def test_features_of_the_wanted_model_are_read(model: str | tuple[str, ...]) -> None:
    assert read_features(EXAMPLE, (NAME,), model)


@pytest.mark.parametrize("model", ["another", f"{MODEL.name}@another", ("another", "a third")])
def test_features_of_another_model_are_refused(model: str | tuple[str, ...]) -> None:
    said = model if isinstance(model, str) else "another or a third"
    with pytest.raises(SampleError, match=f"the recipe's feature_model is {said}; let") as error:
        read_features(EXAMPLE, (NAME,), model)
    assert error.value.reason == "other_model"
