import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.stream.make import draws
from training.stream.geometry import (
    Framing,
    cover,
    fitted,
    frame,
    frame_box,
    frame_mask,
    frame_pixels,
    pad,
    visible_share,
)

sizes = st.tuples(st.integers(8, 120), st.integers(8, 120))
keys = st.text(max_size=5)


@st.composite
def framings(draw: st.DrawFn) -> Framing:
    crop = draw(st.sampled_from(["random", "centre"]))
    return frame(draw(sizes), draw(sizes), draws(draw(keys)), crop, draw(st.sampled_from([0.0, 0.5, 1.0])))


@st.composite
def boxes_in(draw: st.DrawFn, framing: Framing) -> tuple[int, int, int, int]:
    x0, y0 = draw(st.integers(0, framing.source_width - 1)), draw(st.integers(0, framing.source_height - 1))
    return x0, y0, draw(st.integers(x0 + 1, framing.source_width)), draw(st.integers(y0 + 1, framing.source_height))


@given(framings())
def test_the_resized_picture_covers_the_bucket_and_fits_it_on_one_side(framing):
    assert 0 <= framing.left <= framing.resized_width - framing.width
    assert 0 <= framing.top <= framing.resized_height - framing.height
    assert framing.resized_width == framing.width or framing.resized_height == framing.height


@given(sizes, sizes)
def test_resizing_keeps_the_aspect_to_within_a_pixel(source, size):
    width, height = cover(source, size)
    scale = max(size[0] / source[0], size[1] / source[1])
    assert abs(width - source[0] * scale) < 1
    assert abs(height - source[1] * scale) < 1


@given(sizes, sizes)
def test_a_centre_crop_leaves_as_much_on_one_side_as_on_the_other(source, size):
    framing = frame(source, size, draws(), "centre")
    assert framing.resized_width - framing.width - 2 * framing.left in (0, 1)
    assert framing.resized_height - framing.height - 2 * framing.top in (0, 1)


@settings(deadline=None)
@given(st.data(), framings())
def test_a_box_and_a_mask_land_where_their_pixels_land(data, framing):
    x0, y0, x1, y1 = data.draw(boxes_in(framing))
    mask = np.zeros((framing.source_height, framing.source_width), bool)
    mask[y0:y1, x0:x1] = True
    pixels = np.repeat(mask[:, :, None], 3, axis=2).astype(np.uint8) * 255
    framed, framed_mask = frame_pixels(pixels, framing), frame_mask(mask, framing)
    assert framed.shape == (framing.height, framing.width, 3)
    assert framed_mask.shape == framed.shape[:2]
    left, top, right, bottom = frame_box((x0, y0, x1, y1), framing)
    middle_x, middle_y = np.arange(framing.width) + 0.5, np.arange(framing.height) + 0.5
    inside = (middle_x > left) & (middle_x < right) & ((middle_y > top) & (middle_y < bottom))[:, None]
    is_clear = (np.minimum(abs(middle_x - left), abs(middle_x - right)) > 1e-6) & (
        np.minimum(abs(middle_y - top), abs(middle_y - bottom)) > 1e-6
    )[:, None]
    assert np.array_equal(framed_mask[is_clear], inside[is_clear])
    reach = 2 * max(framing.resized_width / framing.source_width, framing.resized_height / framing.source_height, 1)
    deep = (np.minimum(abs(middle_x - left), abs(middle_x - right)) > reach) & (
        np.minimum(abs(middle_y - top), abs(middle_y - bottom)) > reach
    )[:, None]
    assert np.array_equal(framed[:, :, 0][deep] > 127, framed_mask[deep])


@given(st.data(), framings())
def test_the_visible_share_is_that_of_the_boxs_pixels_in_the_crop(data, framing):
    box = data.draw(boxes_in(framing))
    x0, y0, x1, y1 = frame_box(box, framing)
    clipped = max(0, min(x1, framing.width) - max(x0, 0)) * max(0, min(y1, framing.height) - max(y0, 0))
    assert visible_share(box, framing) == pytest.approx(clipped / ((x1 - x0) * (y1 - y0)))
    assert 0 <= visible_share(box, framing) <= 1 + 1e-9


def test_the_box_of_the_whole_picture_is_seen_as_far_as_the_crop_reaches():
    framing = frame((200, 100), (50, 50), draws(), "centre")
    assert visible_share((0, 0, 200, 100), framing) == 0.5
    assert visible_share((0, 0, 50, 100), framing) == 0
    assert visible_share((50, 0, 150, 100), framing) == 1


@given(framings())
def test_flipping_is_the_mirror_image_and_nothing_else(framing):
    pixels = np.random.default_rng(0).integers(0, 255, (framing.source_height, framing.source_width, 3), np.uint8)
    one = {name: getattr(framing, name) for name in Framing.__slots__}
    ways = [frame_pixels(pixels, Framing(**{**one, "is_flipped": flag})) for flag in (False, True)]
    assert np.array_equal(ways[0], ways[1][:, ::-1])


@given(framings())
def test_writing_into_a_given_array_gives_the_same_pixels(framing):
    pixels = np.random.default_rng(1).integers(0, 255, (framing.source_height, framing.source_width, 3), np.uint8)
    out = np.zeros((framing.height, framing.width, 3), np.uint8)
    wanted = frame_pixels(pixels, framing)
    assert frame_pixels(pixels, framing, out) is out
    assert np.array_equal(out, wanted)


@pytest.mark.parametrize("flip_rate", [0.0, 1.0])
def test_a_picture_already_in_its_place_is_framed_there(flip_rate):
    framing = frame((16, 16), (16, 16), draws(), "centre", flip_rate)
    out = np.random.default_rng(2).integers(0, 255, (16, 16, 3), np.uint8)
    before = out.copy()
    frame_pixels(out, framing, out)
    assert np.array_equal(out, before[:, ::-1] if flip_rate else before)


def test_random_crops_reach_every_place_and_depend_on_the_key_alone():
    framings = [frame((40, 20), (20, 20), draws(str(n))) for n in range(500)]
    assert {f.left for f in framings} == set(range(21))
    assert framings == [frame((40, 20), (20, 20), draws(str(n))) for n in range(500)]


def test_a_picture_is_padded_in_the_middle_with_the_colour():
    pixels = np.full((2, 4, 3), 9, np.uint8)
    square = pad(pixels, 4, (255, 1, 2))
    assert (square[1:3] == 9).all()
    assert (square[[0, 3]] == (255, 1, 2)).all()


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600))
def test_a_fitted_picture_touches_its_square_and_is_nowhere_thinner_than_a_pixel(width, height, side):
    fit = fitted(width, height, side)
    assert max(fit) == side
    assert min(fit) >= 1
