import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.base import ModelRef
from stages.models.depth import Depth, Preprocessing, load_depth
from stages.models.drawer import BatchDrawer
from stages.models.memory import CallSize
from stages.pixels import Pixels
from tests.stages.models.tiny_depth import ANYTHING_PROCESSOR, DPT_PROCESSOR, depth_anything, dpt, save

SIZES = [(40, 60), (60, 40), (40, 60), (1, 50), (50, 1), (33, 33), (200, 30)]


def noise(seed: int, height: int, width: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def preprocessing(processor: object) -> Preprocessing:
    return Preprocessing.model_validate(processor.to_dict())  # type: ignore[attr-defined]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 300), st.integers(1, 300), st.booleans())
def test_pictures_are_prepared_as_the_checkpoints_own_processor_does(height: int, width: int, is_dpt: bool) -> None:
    processor = DPT_PROCESSOR if is_dpt else ANYTHING_PROCESSOR
    ours = preprocessing(processor)
    image = noise(height, height, width)
    made = ours(image)
    assert min(made.shape[1:]) >= ours.ensure_multiple_of
    assert all(side % ours.ensure_multiple_of == 0 for side in made.shape[1:])
    if not is_dpt and max(height, width) > 5 * min(height, width):
        return  # the processor rounds thin pictures to nothing
    theirs = processor(Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
    assert made.shape == theirs.shape
    assert (made - theirs).abs().max() < 1e-6, "float32 rounding of (x / 255 - mean) / std"


@pytest.mark.parametrize("kind", ["dpt", "depth_anything"])
def test_depth_is_what_transformers_post_processing_gives(kind: str, tmp_path: Path) -> None:
    network = load_depth(ModelRef(name=str(save(tmp_path, kind))), "cpu")
    processor, model = (DPT_PROCESSOR, dpt()) if kind == "dpt" else (ANYTHING_PROCESSOR, depth_anything())
    image = noise(0, 40, 60)
    with torch.inference_mode():
        outputs = model(**processor(Image.fromarray(image), return_tensors="pt"))
    (theirs,) = processor.post_process_depth_estimation(outputs, [(40, 60)])
    depth = theirs["predicted_depth"]
    expected = ((depth - depth.min()) / (depth.max() - depth.min()) * 255).numpy()
    made = drawer(network)([image])[0]
    assert made is not None and made.dtype == np.uint8
    assert np.abs(made - expected).max() <= 0.51, "rounding to a gray level, and of float32"
    assert made.min() == 0 and made.max() == 255


def drawer(network: Depth, images_per_call: int = 3) -> BatchDrawer:
    calls = CallSize(images_per_call, "images_per_call")
    return BatchDrawer(network=network, device="cpu", precision=torch.float32, calls=calls)


@pytest.mark.parametrize("kind", ["dpt", "depth_anything"])
def test_maps_of_mixed_sizes_are_the_same_however_they_are_batched(kind: str) -> None:
    is_dpt = kind == "dpt"
    network = Depth(
        dpt() if is_dpt else depth_anything(), preprocessing(DPT_PROCESSOR if is_dpt else ANYTHING_PROCESSOR)
    )
    images = [noise(seed, *size) for seed, size in enumerate(SIZES)]
    together = drawer(network)(images)
    for image, made in zip(images, together, strict=True):
        assert made is not None and made.shape == image.shape[:2]
        (alone,) = drawer(network)([image])
        assert alone is not None and np.array_equal(alone, made)
    backwards = drawer(network)(images[::-1])[::-1]
    assert all(np.array_equal(a, b) for a, b in zip(together, backwards, strict=True))  # type: ignore[arg-type]


def test_metric_depth_is_inverted_so_that_near_is_bright() -> None:
    image = noise(0, 42, 42)
    network = Depth(depth_anything("metric"), preprocessing(ANYTHING_PROCESSOR))
    with torch.inference_mode():
        pixels = network.prepare(image)[None]
        far = network.model(pixels).predicted_depth[0]
    (made,) = drawer(network)([image])
    assert made is not None
    assert made.flat[int(far.argmin())] == 255 and made.flat[int(far.argmax())] == 0


@pytest.mark.parametrize("value", [0.0, 7.5, float("nan"), float("inf")])
def test_depth_that_is_the_same_everywhere_or_no_number_is_none(value: float) -> None:
    network = Depth(dpt(), preprocessing(DPT_PROCESSOR))
    assert network.finish(torch.full((8, 8), value), 20, 30) is None
    one_bad = torch.rand(8, 8)
    one_bad[3, 3] = value
    assert (network.finish(one_bad, 8, 8) is None) == (not np.isfinite(value))


def test_a_processor_that_does_more_than_is_done_here_is_refused(tmp_path: Path) -> None:
    save(tmp_path, "dpt")
    file = tmp_path / "preprocessor_config.json"
    plain = json.loads(file.read_text())
    for name, value in [("do_pad", True), ("size", {"shortest_edge": 3, "height": 0}), ("image_mean", [1])]:
        file.write_text(json.dumps(plain | {name: value}))
        with pytest.raises(ValueError, match=f"its preprocessor_config.json: {name}"):
            load_depth(ModelRef(name=str(tmp_path)), "cpu")
    file.write_text("[1]")
    with pytest.raises(ValueError, match="it is no JSON of names and values"):
        load_depth(ModelRef(name=str(tmp_path)), "cpu")
    file.unlink()
    with pytest.raises(ValueError, match=r"cannot read preprocessor_config.json of"):
        load_depth(ModelRef(name=str(tmp_path)), "cpu")


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "glpn"}')
    with pytest.raises(ValueError, match="model_type 'glpn', not dpt or depth_anything"):
        load_depth(ModelRef(name=str(tmp_path)), "cpu")
