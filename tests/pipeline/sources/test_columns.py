"""What columns are called, and what their values mean."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.columns import find_columns, is_unicode, read_id, read_score, read_size, read_text

LAION_2B = ["SAMPLE_ID", "URL", "TEXT", "HEIGHT", "WIDTH", "LICENSE", "NSFW", "similarity"]
LAION_AESTHETIC = ["URL", "TEXT", "WIDTH", "HEIGHT", "similarity", "hash", "punsafe", "pwatermark", "AESTHETIC_SCORE"]
COYO = [
    *("id", "url", "text", "width", "height", "image_phash", "text_length", "word_count", "num_tokens_bert"),
    *("num_tokens_gpt", "num_faces", "clip_similarity_vitb32", "clip_similarity_vitl14", "nsfw_score_opennsfw_v2"),
    *("nsfw_score_gantman", "watermark_score", "aesthetic_score_laion_v2"),
]
GRIT = [
    *("key", "clip_similarity_vitb32", "clip_similarity_vitl14", "id", "url", "caption", "width", "height"),
    *("noun_chunks", "ref_exps"),
]


def test_laion_2b_columns_are_known_and_its_nsfw_word_is_no_score() -> None:
    assert find_columns(LAION_2B) == {
        "source_id": ("SAMPLE_ID",),
        "url": ("URL",),
        "alt_text": ("TEXT",),
        "stated_width": ("WIDTH",),
        "stated_height": ("HEIGHT",),
        "similarity": ("similarity",),
    }


def test_laion_aesthetic_columns_are_known() -> None:
    found = find_columns(LAION_AESTHETIC)
    assert found["aesthetic"] == ("AESTHETIC_SCORE",)
    assert (found["nsfw"], found["watermark"], found["source_id"]) == (("punsafe",), ("pwatermark",), ("hash",))


def test_coyo_columns_are_known_and_the_preferred_of_two_is_taken() -> None:
    found = find_columns(COYO)
    assert found["similarity"] == ("clip_similarity_vitb32",)
    assert found["nsfw"] == ("nsfw_score_opennsfw_v2",)
    assert found["aesthetic"] == ("aesthetic_score_laion_v2",)
    assert find_columns(COYO[::-1]) == found


def test_grit_columns_are_known_and_both_lists_of_boxes_are_taken() -> None:
    found = find_columns(GRIT)
    assert found["annotations"] == ("noun_chunks", "ref_exps")
    assert (found["source_id"], found["alt_text"]) == (("id",), ("caption",))


def test_of_names_that_differ_in_case_the_first_is_taken() -> None:
    assert find_columns(["WIDTH", "width"])["stated_width"] == ("WIDTH",)
    assert find_columns(["width", "WIDTH"])["stated_width"] == ("width",)


@given(st.integers(-(2**63), 2**64 - 1))
def test_integer_ids_are_exact(value: int) -> None:
    assert read_id(value) == str(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.0, "12"), (1.5, "1.5"), (math.nan, None), ("x", "x"), (b"x", "x"), (b"\xff\x01", "ff01"), (None, None)],
)
def test_other_ids_become_text(value: object, text: str | None) -> None:
    assert read_id(value) == text


@pytest.mark.parametrize(("value", "size"), [(512, 512), (512.0, 512), (2**31 - 1, 2**31 - 1)])
def test_sizes_are_integers_or_floats(value: object, size: int) -> None:
    assert read_size(value) == size


@pytest.mark.parametrize("value", [None, math.nan, math.inf, 0, -1, 2**31, 1e300, 10**400, True, "512", b"512", []])
def test_what_is_no_size_is_not_said(value: object) -> None:
    assert read_size(value) is None


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, 10**400, True, "UNLIKELY", {}])
def test_what_is_no_score_is_not_said(value: object) -> None:
    assert read_score(value) is None


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53))
def test_scores_are_finite_numbers(value: float) -> None:
    assert read_score(value) == value


@given(st.binary())
def test_text_from_bytes_is_exact_or_marked_as_no_unicode(data: bytes) -> None:
    text = read_text(data)
    assert text is not None
    assert (text.encode() == data) == is_unicode(data)


def test_lone_surrogates_are_no_unicode_and_can_still_be_shown() -> None:
    assert not is_unicode("a\ud800")
    assert read_text("a\ud800") == "a?"
