import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.stream.make import draws, smooth
from training.stream.augment import alter, crop, normal
from training.stream.prompts.base import Augmentation

PICTURE = smooth(np.random.default_rng(3), 50, 30)


def how(**changed) -> Augmentation:
    return Augmentation(**{"crop": (0, 0, 1, 1), "is_flipped": False, "is_grey": False, "noise": 0.0, **changed})


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_crop_is_a_part_of_the_size_asked_for_and_never_empty(width, height, share, x, y):
    pixels = np.arange(width * height * 3, dtype=np.int64).reshape(height, width, 3).astype(np.uint8)
    left, top = x * (1 - share), y * (1 - share)
    part = crop(pixels, (left, top, left + share, top + share))
    assert part.shape[0] >= 1 and part.shape[1] >= 1
    assert abs(part.shape[1] - share * width) <= 1.5 and abs(part.shape[0] - share * height) <= 1.5
    assert np.shares_memory(part, pixels)


def test_nothing_to_do_leaves_the_picture():
    assert np.array_equal(alter(PICTURE, how(), draws(), "it"), PICTURE)
    assert np.array_equal(crop(PICTURE, (0, 0, 1, 1)), PICTURE)


def test_flipped_and_grey_pictures_are_that():
    assert np.array_equal(alter(PICTURE, how(is_flipped=True), draws(), "it"), PICTURE[:, ::-1])
    grey = alter(PICTURE, how(is_grey=True), draws(), "it").astype(int)
    assert (grey == grey[:, :, :1]).all()
    assert np.abs(grey[:, :, 0] - PICTURE @ np.array([0.299, 0.587, 0.114])).max() <= 0.51


@pytest.mark.parametrize("value", [0, 255])
def test_grey_keeps_black_and_white(value):
    assert (alter(np.full((2, 2, 3), value, np.uint8), how(is_grey=True), draws(), "it") == value).all()


def test_noise_has_the_deviation_asked_for_and_stays_in_range():
    flat = np.full((200, 200, 3), 128, np.uint8)
    difference = alter(flat, how(noise=0.1), draws(), "it").astype(float) - 128
    assert difference.mean() == pytest.approx(0, abs=0.4)
    assert difference.std() == pytest.approx(25.5, abs=0.4)
    bright = alter(np.full((50, 50, 3), 255, np.uint8), how(noise=0.1), draws(), "it")
    assert bright.min() > 128  # wrapped values would be dark


def test_noise_depends_on_its_name_and_sample_and_on_nothing_else():
    one = alter(PICTURE, how(noise=0.1), draws(), "subject0")
    assert np.array_equal(one, alter(PICTURE, how(noise=0.1), draws(), "subject0"))
    assert not np.array_equal(one, alter(PICTURE, how(noise=0.1), draws(), "subject1"))
    assert not np.array_equal(one, alter(PICTURE, how(noise=0.1), draws("other"), "subject0"))


def test_normal_numbers_are_near_enough_to_normal():
    numbers = normal(draws(), "it", 100_000)
    assert numbers.mean() == pytest.approx(0, abs=0.02)
    assert numbers.std() == pytest.approx(1, abs=0.02)
    assert (np.abs(numbers) < 1).mean() == pytest.approx(0.683, abs=0.02)
    assert (np.abs(numbers) < 2).mean() == pytest.approx(0.954, abs=0.01)
    assert np.corrcoef(numbers[:-1], numbers[1:])[0, 1] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_any_count_of_normal_numbers_can_be_had(count):
    assert normal(draws(), "it", count).shape == (count,)


def test_the_noise_of_a_sample_is_the_same_on_every_machine():
    assert zlib.crc32(normal(draws("fixed", 7, 3), "it", 1000).astype("<f4").tobytes()) == 104910683
