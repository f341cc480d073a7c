import pytest
import torch

from training.modules.framing import framing_numbers, whole_numbers
from training.modules.unet import AddedSizes, UnetSizes, build_sdxl_unet
from training.stream.geometry import frame
from training.stream.keyed import Draws
from training.torchvision_compat import ensure_torchvision

ensure_torchvision()

from diffusers import StableDiffusionXLPipeline  # noqa: E402


def framed(source: tuple[int, int], size: tuple[int, int], flip_rate: float = 0.0):
    return frame(source, size, Draws(0, 0, "sample"), "random", flip_rate)


def test_they_are_heights_before_widths_and_the_corner_between_them():
    framing = framed((100, 60), (30, 30))
    assert (framing.resized_width, framing.top) == (50, 0)
    assert framing_numbers([framing]).tolist() == [[60, 100, 0, framing.left, 30, 30]]


def test_they_stand_as_diffusers_pipeline_has_them():
    sizes = UnetSizes(
        channels=(8, 16),
        attends=(False, True),
        layers=1,
        heads=2,
        context_dim=12,
        latent_channels=4,
        groups=4,
        added=AddedSizes(pooled_dim=12, number_dim=4),
    )
    nothing = dict.fromkeys(("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"))
    pipeline = StableDiffusionXLPipeline(unet=build_sdxl_unet(sizes), add_watermarker=False, **nothing)
    framing = framed((100, 60), (30, 20))
    theirs = pipeline._get_add_time_ids(
        (60, 100), (framing.top, framing.left), (20, 30), torch.float32, text_encoder_projection_dim=12
    )
    assert torch.equal(framing_numbers([framing]), theirs)


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
