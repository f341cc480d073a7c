"""Pictures and texts as vectors: transformers' CLIP and open_clip, against each other and against their own code."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.base import ModelRef
from stages.models.clip import BatchClip, windows
from stages.models.clip_hf import load_hf_clip
from stages.models.clip_open import load_open_clip
from stages.models.clip_pixels import ClipPixels, Fit
from stages.pixels import Pixels
from tests.stages.models.tiny_clip import (
    ARCHITECTURE,
    SIDE,
    as_transformers,
    batched,
    hf_folder,
    hf_network,
    open_folder,
    open_network,
    tokenizer,
)

import open_clip  # isort: skip
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTextConfig  # isort: skip

TOLERANCE = 2e-6
"""Of a coordinate of a unit vector: two libraries take the same float32 sums in another order."""

SHAPES = [(40, 60), (61, 35), (32, 32), (5, 7), (33, 200), (32, 35), (39, 32), (1, 300), (400, 1), (1, 1)]
TEXTS = ["a dog", "", "A photo of (two) cats, it's nice: 3.5!", "猫と犬", "собака", "word " * 300, "猫" * 200]


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng([seed, height, width]).integers(0, 256, (height, width, 3), np.uint8)


IMAGES = [noise(*shape) for shape in SHAPES]


@pytest.fixture(scope="module")
def open_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_folder(tmp_path_factory.mktemp("open"))


@pytest.fixture(scope="module")
def hf_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf_folder(tmp_path_factory.mktemp("hf"))


@pytest.fixture(scope="module")
def by_open_clip(open_path: Path) -> BatchClip:
    return batched(load_open_clip(None, ModelRef(name=str(open_path)), "cpu"))


@pytest.fixture(scope="module")
def by_transformers(hf_path: Path) -> BatchClip:
    return batched(load_hf_clip(ModelRef(name=str(hf_path)), "cpu"))


@pytest.fixture(params=["open_clip", "transformers"])
def model(request: pytest.FixtureRequest, by_open_clip: BatchClip, by_transformers: BatchClip) -> BatchClip:
    return by_open_clip if request.param == "open_clip" else by_transformers


def test_both_libraries_give_the_same_vectors_for_the_same_weights(
    by_open_clip: BatchClip, by_transformers: BatchClip
) -> None:
    seen = [image for image in IMAGES if (max(image.shape[:2]) * SIDE // min(image.shape[:2]) - SIDE) % 4 != 3]
    assert len(seen) >= 7  # of the others, the two libraries cut squares that are a pixel apart
    np.testing.assert_allclose(by_open_clip.embed_images(seen), by_transformers.embed_images(seen), atol=TOLERANCE)
    np.testing.assert_allclose(by_open_clip.embed_texts(TEXTS), by_transformers.embed_texts(TEXTS), atol=TOLERANCE)
    assert by_open_clip.logit_scale == pytest.approx(by_transformers.logit_scale)


def test_vectors_are_those_of_the_libraries_own_ways(
    by_open_clip: BatchClip, by_transformers: BatchClip, hf_path: Path
) -> None:
    native, transform = open_network(), open_clip.image_transform(SIDE, is_train=False)
    processor, network = CLIPImageProcessorPil.from_pretrained(hf_path), hf_network(as_transformers(native))
    with torch.inference_mode():
        image = native.encode_image(transform(Image.fromarray(IMAGES[0]))[None], normalize=True)
        text = native.encode_text(open_clip.tokenize("a dog"), normalize=True)
        other = network.get_image_features(**processor(Image.fromarray(IMAGES[0]), return_tensors="pt")).pooler_output
    np.testing.assert_allclose(by_open_clip.embed_images(IMAGES[:1]), image, atol=TOLERANCE)
    np.testing.assert_allclose(by_open_clip.embed_texts(["a dog"]), text, atol=TOLERANCE)
    np.testing.assert_allclose(by_transformers.embed_images(IMAGES[:1]), other / other.norm(), atol=TOLERANCE)


def test_vectors_do_not_depend_on_the_batch(model: BatchClip) -> None:
    images, texts = model.embed_images(IMAGES), model.embed_texts(TEXTS)
    for number, image in enumerate(IMAGES):
        np.testing.assert_allclose(model.embed_images([image])[0], images[number], atol=1e-6)
    for number, text in enumerate(TEXTS):
        np.testing.assert_allclose(model.embed_texts([text])[0], texts[number], atol=1e-6)
    np.testing.assert_allclose(model.embed_texts(TEXTS[::-1])[::-1], texts, atol=1e-6)
    assert np.allclose(np.linalg.norm(images, axis=1), 1) and np.allclose(np.linalg.norm(texts, axis=1), 1)
    assert len(model.embed_images([])) == len(model.embed_texts([])) == 0


def test_no_word_of_a_long_text_is_lost(model: BatchClip) -> None:
    long = " ".join(f"dog{number}" for number in range(200))
    parts = windows(long, model.network.fits)
    assert " ".join(parts) == long and len(parts) > 1 and all(map(model.network.fits, parts))
    mean = model.embed_texts(parts).mean(axis=0)
    np.testing.assert_allclose(model.embed_texts([long])[0], mean / np.linalg.norm(mean), atol=1e-6)
    changed = long.replace("dog199", "a red bus")
    assert np.abs(model.embed_texts([long]) - model.embed_texts([changed])).max() > 1e-4


@pytest.mark.parametrize("text", ["x" * 10_000, "猫" * 10_000, "dog " * 2_500, " " * 10_000, "🐕\u200d" * 5_000])
def test_ten_thousand_characters_are_embedded(model: BatchClip, text: str) -> None:
    assert np.isfinite(model.embed_texts([text])).all()


def test_a_long_text_is_measured_without_transformers_warning_of_errors_that_do_not_come() -> None:
    network = load_hf_clip(ModelRef(name="shapes_clip"), "cpu")
    assert not network.fits("dog " * 100)
    assert "sequence-length-is-longer-than-the-specified-maximum" not in network.tokenizer.deprecation_warnings


@settings(max_examples=50)
@given(st.text(max_size=100), st.integers(1, 20))
def test_windows_keep_the_text_in_order_and_fit(text: str, most: int) -> None:
    parts = windows(text, lambda part: len(part) <= most)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(len(part) <= most and part == part.strip() for part in parts)
    assert len(parts) == 1 or all(parts)


def _transformers(shape: tuple[int, int], fit: Fit) -> tuple[ClipPixels, Callable[[Image.Image], torch.Tensor]]:
    processor = CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": SIDE, "width": SIDE})
    return ClipPixels(side=SIDE, resized=40), lambda image: processor(image, return_tensors="pt").pixel_values[0]


def _open_clip(shape: tuple[int, int], fit: Fit) -> tuple[ClipPixels, Callable[[Image.Image], torch.Tensor]]:
    return ClipPixels(side=SIDE, fit=fit, by="open_clip"), open_clip.image_transform(SIDE, False, resize_mode=fit)


sides = st.integers(1, 90)


@settings(max_examples=80, deadline=None)
@given(sides, sides, st.sampled_from(["shortest", "longest", "squash"]))
def test_pixels_are_exactly_those_of_open_clip(height: int, width: int, fit: Fit) -> None:
    assume(
        fit != "longest" or 32 * min(height, width) > max(height, width)
    )  # else open_clip leaves no pixel, and fails
    if fit == "shortest" and max(height, width) > 16 * min(height, width):
        height = width = max(height, width)
    image, (canvas, reference) = noise(height, width), _open_clip((height, width), fit)
    assert torch.equal(canvas.normalise(canvas.draw([image]))[0], reference(Image.fromarray(image)))


@settings(max_examples=80, deadline=None)
@given(sides, sides)
def test_pixels_are_those_of_transformers(height: int, width: int) -> None:
    if max(height, width) > 16 * min(height, width):
        height = width = max(height, width)
    image, (canvas, reference) = noise(height, width), _transformers((height, width), "shortest")
    ours, theirs = canvas.normalise(canvas.draw([image]))[0], reference(Image.fromarray(image))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)  # it multiplies by 1/255 where we divide


@pytest.mark.parametrize("shape", [(2, 90), (90, 2), (2, 91), (91, 3)])
def test_a_very_long_picture_is_seen_in_its_middle(shape: tuple[int, int]) -> None:
    height, width = shape
    ramp = np.linspace(0, 255, height * width, dtype=np.uint8).reshape(shape)[..., None].repeat(3, axis=2)
    canvas, reference = _open_clip(shape, "shortest")
    ours, theirs = canvas.normalise(canvas.draw([ramp]))[0], reference(Image.fromarray(ramp))
    assert (ours - theirs).abs().max() * min(canvas.std) * 255 <= 3  # levels; where it is cut moves by a pixel of 32


def test_a_picture_a_pixel_thin_and_a_hundred_thousand_long_takes_little_memory() -> None:
    assert ClipPixels(side=224).draw([np.zeros((1, 100_000, 3), np.uint8)]).shape == (1, 3, 224, 224)


def test_weights_that_are_no_numbers_give_no_numbers(open_path: Path) -> None:
    network = load_open_clip(None, ModelRef(name=str(open_path)), "cpu")
    network.model.visual.proj.fill_(float("nan"))
    assert np.isnan(batched(network).embed_images(IMAGES[:1])).all()


def test_a_checkpoint_file_needs_its_architecture(tmp_path: Path, by_open_clip: BatchClip) -> None:
    (tmp_path / "tiny-clip.json").write_text(json.dumps(ARCHITECTURE))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    for name in ("tiny.pt", "tiny.pth"):
        torch.save({"state_dict": open_network().state_dict()}, tmp_path / name)
        loaded = batched(load_open_clip("tiny-clip", ModelRef(name=str(tmp_path / name)), "cpu"))
        assert np.array_equal(loaded.embed_images(IMAGES), by_open_clip.embed_images(IMAGES))
    ref = ModelRef(name=str(tmp_path / "tiny.pt"))
    with pytest.raises(ValueError, match="architecture None"):
        load_open_clip(None, ref, "cpu")
    with pytest.raises(ValueError, match="architecture 'RN50000'"):
        load_open_clip("RN50000", ref, "cpu")


class Malicious:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('code ran')",)


CODE_AND_DAMAGE = [pickle.dumps(Malicious(), protocol=2), pickle.dumps({"a": 1}, protocol=2), b"", b"PK\x03\x04 torn"]


@pytest.mark.parametrize("content", CODE_AND_DAMAGE)
def test_a_broken_checkpoint_and_one_with_code_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tiny-clip.json").write_text(json.dumps(ARCHITECTURE))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot load open_clip model .*bad\.pt"):
        load_open_clip("tiny-clip", ModelRef(name=str(tmp_path / "bad.pt")), "cpu")


def test_a_folder_of_another_kind_is_refused(tmp_path: Path, open_path: Path, hf_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot load open_clip model"):
        load_open_clip(None, ModelRef(name=str(hf_path)), "cpu")
    with pytest.raises(ValueError, match="cannot load CLIPModel"):
        load_hf_clip(ModelRef(name=str(open_path)), "cpu")
    (tmp_path / "weights.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="is no checkpoint file"):
        load_open_clip("RN50", ModelRef(name=str(tmp_path / "weights.npy")), "cpu")


def test_a_tokenizer_or_preprocessor_of_another_model_is_refused(tmp_path: Path, hf_path: Path) -> None:
    small = CLIPTextConfig(
        vocab_size=99, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    vision = hf_network().config.vision_config
    CLIPModel(CLIPConfig(text_config=small, vision_config=vision)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no tokenizer in"):
        load_hf_clip(ModelRef(name=str(tmp_path)), "cpu")
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no preprocessor_config"):
        load_hf_clip(ModelRef(name=str(tmp_path)), "cpu")
    with pytest.raises(ValueError, match="the network knows 99"):
        load_hf_clip(ModelRef(name=str(tmp_path)), "cpu", processor=ModelRef(name=str(hf_path)))
