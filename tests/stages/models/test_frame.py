import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.models.frame import Frame
from stages.models.grounding_dino import frame_of
from stages.pixels import Pixels
from tests.stages.models.tiny_grounding_dino import GroundingDinoImageProcessorPil

SIZES = [(480, 640), (640, 427), (333, 1000), (1000, 333), (64, 64), (50, 90), (7, 300), (301, 8)]


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture(scope="module", params=[(96, 160), (64, 107)])
def processor(request: pytest.FixtureRequest) -> GroundingDinoImageProcessorPil:
    short, long = request.param
    return GroundingDinoImageProcessorPil(size={"shortest_edge": short, "longest_edge": long})


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_is_prepared_as_transformers_does_it(
    processor: GroundingDinoImageProcessorPil, size: tuple[int, int]
) -> None:
    theirs = processor(noise(*size), return_tensors="pt", do_pad=False).pixel_values[0]
    frame = frame_of(processor)
    pixels, is_picture = frame.fill([frame.draw(noise(*size))], 1, frame.padded(*size), "cpu")
    _, height, width = theirs.shape
    assert frame.fitted(*size) == (height, width)
    # both scale and shift bytes in float32; the order of the operations moves the last bits
    assert torch.allclose(pixels[0, :, :height, :width], theirs, atol=2e-6)
    assert is_picture[0, :height, :width].all() and is_picture.sum() == height * width
    assert not pixels[0, :, height:].any() and not pixels[0, :, :, width:].any()


def test_the_frame_has_what_a_checkpoint_says() -> None:
    own = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 99}, image_mean=[0.1, 0.2, 0.3])
    assert frame_of(own) == Frame(short_side=64, long_side=99, mean=(0.1, 0.2, 0.3))
    with pytest.raises(ValueError, match="shortest_edge and longest_edge"):
        frame_of(GroundingDinoImageProcessorPil(size={"height": 64, "width": 64}))


@pytest.mark.filterwarnings("ignore:Importing from timm.models.layers:FutureWarning")
@pytest.mark.parametrize("size", SIZES)
def test_a_picture_is_prepared_as_groundingdino_does_it(size: tuple[int, int]) -> None:
    transforms = pytest.importorskip("groundingdino.datasets.transforms", exc_type=ImportError)
    steps = [
        transforms.RandomResize([96], max_size=160),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    theirs, _ = transforms.Compose(steps)(Image.fromarray(noise(*size)), None)
    frame = Frame(short_side=96, long_side=160, is_rounded_first=True)
    pixels, _ = frame.fill([frame.draw(noise(*size))], 1, frame.padded(*size), "cpu")
    _, height, width = theirs.shape
    assert frame.fitted(*size) == (height, width)
    assert torch.allclose(pixels[0, :, :height, :width], theirs, atol=2e-6)


@given(st.integers(1, 4000), st.integers(1, 4000), st.booleans())
@settings(deadline=None)
@example(1, 4000, False)
@example(4000, 1, True)
def test_any_picture_fits_and_keeps_its_shape(height: int, width: int, is_rounded_first: bool) -> None:
    frame = Frame(is_rounded_first=is_rounded_first)
    high, wide = frame.fitted(height, width)
    assert 1 <= min(high, wide) <= 800 and max(high, wide) <= 1333 + 64
    if min(height, width) * 20 > max(height, width):
        assert max(high, wide) <= 1345 and high / wide == pytest.approx(height / width, rel=0.02)
    for side, padded in zip((high, wide), frame.padded(height, width), strict=True):
        assert padded % 64 == 0 and side <= padded < side + 64


def test_frames_without_a_picture_are_black_and_count_as_picture() -> None:
    frame = Frame(short_side=32, long_side=64)
    pixels, is_picture = frame.fill([frame.draw(noise(20, 30))], 3, (64, 64), "cpu")
    assert pixels.shape == (3, 3, 64, 64) and not pixels[1:].any() and is_picture[1:].all()
