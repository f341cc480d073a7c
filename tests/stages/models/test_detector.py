"""Detectors around tiny networks with random weights, and around one that sees drawn shapes."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from manifests.record import Picture
from stages.models.detector import Detections
from stages.models.frame import IMAGENET_MEAN, IMAGENET_STD, Frame
from stages.models.memory import CallSize
from stages.models.prompts import PromptWriter
from stages.pixels import write_png
from tests.stages.models.tiny_grounding_dino import batched, tokenizer

SIZES = [(90, 120), (200, 64), (33, 33), (1, 150), (64, 64), (150, 1), (90, 121), (64, 64)]
PHRASES: list[list[str]] = [
    ["red dog", "cat"],
    ["ball"],
    [],
    ["man in a striped shirt", "striped shirt", "hat", "blue ball"] * 2,
    ["red ball with a hat"] + [f"{colour} star" for colour in ("red", "green", "blue")] * 9,
    ["star", "zebra", "red dog"],
    ["red dog"],
    ["red " * 300, "dog", "cat"],
]


def noise(height: int, width: int, seed: int) -> Picture:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3))
    return write_png(np.kron(blocks, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8))


IMAGES = [noise(*size, seed) for seed, size in enumerate(SIZES)]


def assert_same(found: Sequence[Detections], expected: Sequence[Detections], tolerance: float = 1e-4) -> None:
    """Equal up to the last bits of sums that hang on the place in a call: boxes are up to 200 pixels large."""
    for one, other in zip(found, expected, strict=True):
        assert one.unread == other.unread and one.scores.shape == other.scores.shape
        assert one.boxes == pytest.approx(other.boxes, abs=200 * tolerance)
        assert one.scores == pytest.approx(other.scores, abs=tolerance)
        assert np.array_equal(*(np.argsort(-mine.scores, axis=0)[:1] for mine in (one, other)))


def test_batched_equals_one_by_one_in_any_order() -> None:
    detector = batched()
    together = detector(IMAGES, PHRASES)
    alone = [detector([image], [phrases])[0] for image, phrases in zip(IMAGES, PHRASES, strict=True)]
    assert_same(together, alone)
    assert_same(detector(IMAGES[::-1], PHRASES[::-1])[::-1], together)


def test_one_picture_a_call_is_exact_in_any_order() -> None:
    detector = batched(images=1)
    together, turned = detector(IMAGES, PHRASES), detector(IMAGES[::-1], PHRASES[::-1])[::-1]
    for one, other in zip(together, turned, strict=True):
        assert np.array_equal(one.boxes, other.boxes) and np.array_equal(one.scores, other.scores)


def test_what_is_found_differs_by_picture_and_phrase() -> None:
    found = batched()([IMAGES[0], IMAGES[4], IMAGES[4]], [["red dog", "cat"], ["red dog", "cat"], ["ball", "cat"]])
    scores = np.stack([mine.scores for mine in found])
    assert np.ptp(scores) > 0.2
    assert not np.allclose(scores[0], scores[1], atol=1e-3)
    assert not np.allclose(scores[1, :, 0], scores[2, :, 0], atol=1e-3)
    assert not np.allclose(scores[1, :, 0], scores[1, :, 1], atol=1e-3)


def test_a_prompt_longer_than_the_text_encoder_takes_is_asked_in_parts() -> None:
    writer = PromptWriter(tokenizer(), 14)
    phrases = ["red dog", "cat", "blue ball", "green star", "hat", "man in a striped shirt"]
    detector = batched(writer=writer)
    (found,) = detector(IMAGES[:1], [phrases])
    parts = [phrases[:4], phrases[4:]]
    assert [list(prompt.places) for prompt in writer.write(phrases).prompts] == [[0, 1, 2, 3], [4, 5]]
    first, second = (detector(IMAGES[:1], [part])[0] for part in parts)
    assert len(found.boxes) == 24
    assert found.boxes == pytest.approx(np.vstack([first.boxes, second.boxes]), abs=0.02)
    assert found.scores[:12, :4] == pytest.approx(first.scores, abs=1e-4)
    assert found.scores[12:, 4:] == pytest.approx(second.scores, abs=1e-4)
    assert not found.scores[:12, 4:].any() and not found.scores[12:, :4].any()


def test_the_mean_of_a_phrases_tokens_is_at_most_the_highest() -> None:
    highest, mean = (batched(phrase_score=kind)(IMAGES[:1], [["red dog", "cat"]])[0].scores for kind in ("max", "mean"))
    assert (mean[:, 0] <= highest[:, 0]).all() and (mean[:, 0] < highest[:, 0]).any()
    assert np.array_equal(mean[:, 1], highest[:, 1])


def test_a_picture_without_readable_phrases_is_not_looked_at() -> None:
    class Untouched:
        def detect(self, *_: Tensor) -> tuple[Tensor, Tensor]:
            raise AssertionError

    found = batched(Untouched())(IMAGES[:3], [[], ["zebra"], ["..."]])
    assert [mine.boxes.shape for mine in found] == [(0, 4)] * 3
    assert [mine.scores.shape for mine in found] == [(0, 0), (0, 1), (0, 1)]
    assert [mine.unread for mine in found] == [{}, {0: "unknown_words"}, {0: "unknown_words"}]
    assert batched(Untouched())([], []) == []


def test_bfloat16_is_close_to_float32() -> None:
    """How close depends on the processor's rounding; so it is held against what another picture makes of it."""
    exact, rough = (batched(precision=kind)(IMAGES[:2], PHRASES[:2]) for kind in (torch.float32, torch.bfloat16))
    elsewhere = batched(precision=torch.float32)(IMAGES[2:4], PHRASES[:2])
    for one, other, third in zip(exact, rough, elsewhere, strict=True):
        assert np.isfinite(other.boxes).all()
        assert np.abs(one.scores - other.scores).mean() < 0.4 * np.abs(one.scores - third.scores).mean()


class Seeing:
    """Finds what is red: one box around it, from the pixels and their mask alone, for every token."""

    def __init__(self, room: int = 9) -> None:
        self.room = room
        self.sizes: list[tuple[int, ...]] = []

    def detect(self, pixels: Tensor, is_picture: Tensor, ids: Tensor, is_text: Tensor) -> tuple[Tensor, Tensor]:
        self.sizes.append(tuple(pixels.shape))
        if len(pixels) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        boxes = torch.stack([self._box(*both) for both in zip(pixels, is_picture, strict=True)])
        logits = torch.where(is_text, 4.0, -torch.inf)
        return boxes[:, None], logits[:, None]

    def _box(self, pixels: Tensor, is_picture: Tensor) -> Tensor:
        mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
        red = (pixels * std + mean)[0] * is_picture
        share = (red.clamp(0, 1)).double()
        height, width = int(is_picture[:, 0].sum()), int(is_picture[0].sum())
        across, down = share.amax(dim=0), share.amax(dim=1)
        x0, x1 = _edges(across)
        y0, y1 = _edges(down)
        return torch.tensor([(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height])


def _edges(profile: Tensor) -> tuple[float, float]:
    """Where a profile that falls off linearly crosses a half."""
    inside = torch.nonzero(profile > 0.5).flatten()
    return float(inside[0]) if len(inside) else 0.0, float(inside[-1]) + 1 if len(inside) else 1.0


@st.composite
def drawn(draw: st.DrawFn) -> tuple[Picture, tuple[int, int, int, int]]:
    height, width = draw(st.integers(24, 150)), draw(st.integers(24, 150))
    x0, y0 = draw(st.integers(0, width - 12)), draw(st.integers(0, height - 12))
    x1, y1 = draw(st.integers(x0 + 12, width)), draw(st.integers(y0 + 12, height))
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[y0:y1, x0:x1, 0] = 255
    return write_png(pixels), (x0, y0, x1, y1)


@given(st.lists(drawn(), min_size=1, max_size=5), st.sampled_from([32, 64, 96]), st.booleans())
@settings(deadline=None, max_examples=30)
def test_boxes_land_where_the_shapes_were_drawn(
    scenes: list[tuple[Picture, tuple[int, int, int, int]]], multiple: int, is_rounded_first: bool
) -> None:
    frame = Frame(short_side=64, long_side=107, multiple=multiple, is_rounded_first=is_rounded_first)
    found = batched(Seeing(), frame=frame)([image for image, _ in scenes], [["red ball"]] * len(scenes))
    for (image, box), mine in zip(scenes, found, strict=True):
        high, wide = frame.fitted(image.height, image.width)
        # the edge of a resized shape is known to a pixel of the smaller of both pictures
        across, down = max(1.0, image.width / wide), max(1.0, image.height / high)
        assert mine.boxes[0] == pytest.approx(np.array(box), abs=1.01 * max(across, down))
        assert mine.scores == pytest.approx(1 / (1 + np.exp(-4)))


def test_pictures_of_one_padded_size_share_calls_and_all_calls_are_full() -> None:
    network, frame = Seeing(), Frame(short_side=64, long_side=107, multiple=32)
    batched(network, images=4, frame=frame)([noise(64, width, 0) for width in (64, 70, 90, 96, 97, 64)], [["dog"]] * 6)
    assert network.sizes == [(4, 3, 64, 64), (4, 3, 64, 96), (4, 3, 64, 128)]


def test_out_of_memory_halves_the_calls_and_gives_the_same() -> None:
    short, ample = Seeing(room=2), Seeing()
    detector = batched(short, calls=CallSize(4, "images_per_call"))
    assert_same(detector(IMAGES, PHRASES), batched(ample, images=4)(IMAGES, PHRASES))
    assert [size[0] for size in short.sizes][:3] == [4, 2, 2] and 4 not in [size[0] for size in short.sizes[1:]]
