import json

import pytest

from manifests.shard import SchemaVersionError
from tests.training.stream.make import draw_record, example_of, members_of, with_features
from training.stream.example import SampleError, parse_example


def test_a_record_comes_back_as_the_trainer_needs_it() -> None:
    record = with_features(draw_record(subjects=2))
    assert record.image and record.subjects and record.caption
    example = example_of(record)
    assert (example.image, example.width, example.height) == ("jpg", 96, 64)
    assert example.captions == (record.caption, "another text")
    assert [s.span.of(example.caption) for s in example.subjects] == [s.phrase for s in record.subjects]
    assert example.subjects[0].head_crop == "subject0.head.jpg" and example.subjects[1].head_crop is None
    assert example.controls == {"canny": "canny.png", "depth": "depth.png"}
    assert [region.kind for region in example.regions] == ["object", "random"]
    assert {feature.member for feature in example.features} <= set(example.members)


def test_pictures_with_text_of_anybody_are_examples() -> None:
    example = parse_example("a", {"jpg": b"x", "txt": b"ein Hund", "json": b'{"caption": "a dog"}'}, 5, 6)
    assert (example.image, example.captions, example.subjects) == ("jpg", ("ein Hund", "a dog"), ())
    assert parse_example("a", {"png": b"x"}, 5, 6).captions == ("",)


def test_json_that_only_the_standard_library_reads_is_read() -> None:
    plain = '{"caption": "a \ufeff"}'.encode("utf-16")
    assert parse_example("a", {"jpg": b"x", "json": plain}, 5, 6).caption == json.loads(plain)["caption"]


def test_half_a_character_in_a_caption_becomes_one_that_tokenizers_take() -> None:
    plain = b'{"caption": "a \\ud83d", "text": "\\ud83d\\ude00"}'
    assert parse_example("a", {"jpg": b"x", "json": plain}, 5, 6).captions == ("a ?", "\U0001f600")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"jpg": b"x", "json": b"{"}, "bad_json"),
        ({"jpg": b"x", "json": b"[1]"}, "bad_json"),
        ({"jpg": b"x", "json": b"[" * 100_000}, "bad_json"),
        ({"jpg": b"x", "json": b'{"schema_version": 1}'}, "bad_json"),
        ({"jpg": b"x", "txt": b"\xff"}, "bad_text"),
        ({"txt": b"x"}, "no_image"),
    ],
)
def test_what_is_no_sample_is_told_by_reason(members: dict[str, bytes], reason: str) -> None:
    with pytest.raises(SampleError) as error:
        parse_example("a", members, 5, 6)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), None),
        (("schema_version",), "1"),
        (("schema_version",), [1]),
        (("subjects", 0, "box", "x1"), 0),
        (("subjects", 0, "box", "x0"), float("nan")),
        (("faces", 0, "box", "y1"), -1e308),
        (("regions", 0, "box", "x0"), 1e9),
        (("caption",), "half \ud800"),
    ],
)
def test_a_record_with_a_wrong_value_is_bad_json(path: tuple[str | int, ...], value: object) -> None:
    members = members_of(draw_record(subjects=2))
    plain = at = json.loads(members["json"])
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    with pytest.raises(SampleError) as error:
        parse_example("a", members | {"json": json.dumps(plain).encode()}, 96, 64)
    assert error.value.reason == "bad_json"


def test_a_record_that_names_no_target_lacks_one() -> None:
    members = members_of(draw_record(subjects=2))
    plain = json.loads(members["json"])
    plain["image"]["format"] = ""
    with pytest.raises(SampleError) as error:
        parse_example("a", members | {"json": json.dumps(plain).encode()}, 96, 64)
    assert error.value.reason == "missing_reference"


@pytest.mark.parametrize("missing", ["jpg", "subject0.jpg", "subject1.mask.png", "subject0.head.jpg", "canny.png"])
def test_a_member_that_the_json_names_must_be_there(missing: str) -> None:
    members = members_of(draw_record(subjects=2))
    del members[missing]
    with pytest.raises(SampleError, match=missing) as error:
        parse_example("a", members, 96, 64)
    assert error.value.reason == "missing_reference"


def test_samples_of_a_newer_inlay_stop_the_reader() -> None:
    members = members_of(draw_record())
    members["json"] = json.dumps(json.loads(members["json"]) | {"schema_version": 99}).encode()
    with pytest.raises(SchemaVersionError):
        parse_example("a", members, 96, 64)
