import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.buckets import bucket_size, cover
from training.stream.buckets import RATIOS, Buckets


@given(st.floats(0.05, 20), st.integers(64, 2048), st.sampled_from([1, 8, 64]))
def test_a_bucket_has_its_shape_and_area_to_within_a_multiple(bucket: float, side: int, multiple: int) -> None:
    width, height = bucket_size(bucket, side, multiple)
    assert width % multiple == height % multiple == 0 and width and height
    assert abs(width - side * bucket**0.5) <= max(multiple / 2, multiple - side * bucket**0.5) + 1e-6
    assert abs(height - side / bucket**0.5) <= max(multiple / 2, multiple - side / bucket**0.5) + 1e-6


@pytest.mark.parametrize(("bucket", "size"), [(1, (512, 512)), (2, (704, 384)), (0.5, (384, 704)), (1.5, (640, 448))])
def test_sizes_that_are_known(bucket: float, size: tuple[int, int]) -> None:
    assert bucket_size(bucket, 512, 64) == size


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40))
def test_any_picture_covers_any_size(height: int, width: int, out_width: int, out_height: int) -> None:
    assert cover(np.zeros((height, width, 3), np.uint8), out_width, out_height).shape == (out_height, out_width, 3)


def test_the_middle_is_kept_and_nothing_is_stretched() -> None:
    picture = np.zeros((40, 100, 3), np.uint8)
    picture[10:30, 40:60] = 255
    found = cover(picture, 20, 20)[:, :, 0]
    assert np.array_equal(found > 127, np.pad(np.ones((10, 10), bool), 5))


def test_a_thin_picture_makes_nothing_large() -> None:
    assert cover(np.zeros((1, 2_000_000, 3), np.uint8), 512, 512).shape == (512, 512, 3)


@pytest.mark.parametrize("side", [160, 224, 288, 320, 512, 672])
def test_sizes_are_those_of_the_streams_buckets(side: int) -> None:
    assert [bucket_size(ratio, side, 64) for ratio in RATIOS] == list(Buckets(base=side).sizes)
