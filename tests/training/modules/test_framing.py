import pytest
import torch

from training.modules.framing import framing_numbers, whole_numbers
from training.stream.geometry import frame
from training.stream.keyed import Draws


def framed(source: tuple[int, int], size: tuple[int, int], flip_rate: float = 0.0):
    return frame(source, size, Draws(0, 0, "sample"), "random", flip_rate)


def test_they_are_heights_before_widths_and_the_corner_between_them():
    framing = framed((100, 60), (30, 30))
    assert (framing.resized_width, framing.top) == (50, 0)
    assert framing_numbers([framing]).tolist() == [[60, 100, 0, framing.left, 30, 30]]


def test_of_a_flipped_target_the_corner_is_that_of_the_flipped_picture():
    plain, flipped = framed((100, 60), (30, 30)), framed((100, 60), (30, 30), flip_rate=1.0)
    (one,), (other,) = framing_numbers([plain]).tolist(), framing_numbers([flipped]).tolist()
    assert one[3] + other[3] == 50 - 30
    assert one[:3] + one[4:] == other[:3] + other[4:]


@pytest.mark.parametrize("size", [(64, 32), (32, 32)])
def test_a_picture_to_be_drawn_is_as_one_stored_at_its_size_and_shown_whole(size):
    numbers = whole_numbers(size, 3)
    assert numbers.dtype == torch.float32
    assert torch.equal(numbers, framing_numbers([framed(size, size)] * 3))
