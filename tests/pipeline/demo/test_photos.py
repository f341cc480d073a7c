import re

import pytest

from pipeline.demo.photos import DEEP_FIELD, PHOTOS, Photo, PhotoError

ALL = [*PHOTOS, DEEP_FIELD]


@pytest.mark.parametrize("photo", ALL, ids=lambda photo: photo.name)
def test_every_box_lies_inside_its_photograph(photo: Photo) -> None:
    width, height = photo.open().size
    for x0, y0, x1, y1 in photo.boxes.values():
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height


@pytest.mark.parametrize("photo", ALL, ids=lambda photo: photo.name)
def test_captions_name_every_box_and_nothing_else(photo: Photo) -> None:
    marks = [names for caption in photo.captions for names in re.findall(r"]\(([^)]*)\)", caption)]
    assert {name for names in marks for name in names.split(", ")} == photo.boxes.keys()


def test_photographs_are_gray_or_rgb_and_opening_one_gives_a_copy() -> None:
    assert {photo.open().mode for photo in ALL} == {"L", "RGB"}
    photo = PHOTOS[0]
    photo.open().paste(0, (0, 0, 8, 8))
    assert photo.open().crop((0, 0, 8, 8)).getbbox() is not None


@pytest.mark.parametrize(
    ("package", "path", "remedy"),
    [("no-such-package", "cat.png", r"pip install '\.\[demo\]'"), ("scikit-image", "skimage/data/no.png", "reinstall")],
)
def test_a_missing_photograph_says_what_to_install(package: str, path: str, remedy: str) -> None:
    photo = Photo(name="cat", package=package, path=path, credit="", licence="", boxes={}, captions=())
    with pytest.raises(PhotoError, match=remedy):
        photo.open()
