import pytest
from pydantic import ValidationError

from stages.base import Drop
from stages.captioning import CaptioningParams, without_opening


@pytest.mark.parametrize(
    ("caption", "rest"),
    [
        ("The image shows a dog.", "A dog."),
        ("This picture is of two cats", "Two cats"),
        ("In this image, there is a dog. The image shows it well.", "A dog. The image shows it well."),
        ("In the photo we can see: a hat", "A hat"),
        ("THE IMAGE DEPICTS Éva", "Éva"),
        ("The image showsa dog", "The image showsa dog"),
        ("A dog, as the image shows", "A dog, as the image shows"),
        ("The image shows", ""),
        ("", ""),
    ],
)
def test_an_opening_that_says_that_there_is_an_image_comes_off(caption: str, rest: str) -> None:
    assert without_opening(caption) == rest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" a  dog\n&amp; cat\u200b ", "a dog & cat"),
        ("犬が公園にいる", "犬が公園にいる"),
        ("", "empty_caption"),
        (" \u200b\n", "empty_caption"),
        ("This image shows: ", "empty_caption"),
        ("ab", "too_short"),
        ("dog " * 10_000, "too_long"),
        ("a dog dog dog dog", "repetitive_caption"),
    ],
)
def test_a_caption_is_clean_and_fit_or_dropped_for_a_reason(text: str, expected: str) -> None:
    found = CaptioningParams().fit(text)
    assert (found.reason if isinstance(found, Drop) else found) == expected


def test_openings_may_stay() -> None:
    assert CaptioningParams(strip_opening=False).fit("The image shows a dog") == "The image shows a dog"


def test_parameters_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="num_beams 3 does not go with sampling"):
        CaptioningParams(num_beams=3, temperature=0.7)
    with pytest.raises(ValidationError, match="min_chars 9 is above max_chars 3"):
        CaptioningParams(min_chars=9, max_chars=3)
    with pytest.raises(ValidationError, match="less than or equal to 200"):
        CaptioningParams(max_aspect=201)
