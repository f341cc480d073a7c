"""LAION's heads against the formulas they were published with."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from stages.base import ModelRef
from stages.models.heads import Judges, build_head, load_head
from stages.models.scorer import HeadScorer

WIDTH = 24
MLP = (0, 2, 4, 6, 7)
H14 = (0, 3, 6, 9, 12, 15, 16)


def weights(names: list[str], widths: list[int], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, inputs, outputs in zip(names, widths, widths[1:], strict=False):
        state[f"{name}weight"] = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
        state[f"{name}bias"] = torch.randn(outputs, generator=generator)
    return state


def linear() -> dict[str, Tensor]:
    return weights([""], [WIDTH, 1])


def mlp() -> dict[str, Tensor]:
    return weights([f"layers.{number}." for number in MLP], [WIDTH, 32, 16, 8, 4, 1])


def h14() -> dict[str, Tensor]:
    return weights([f"layers.{number}." for number in H14], [WIDTH, 16, 32, 16, 8, 8, 4, 1])


def binary(layers: int) -> dict[str, Tensor]:
    state = weights([f"linear_{number + 1}." for number in range(layers)], [*[WIDTH, 16, 12, 8][:layers], 1])
    generator = torch.Generator().manual_seed(1)
    norm = {
        "norm.mean": torch.randn(WIDTH, generator=generator),
        "norm.variance": torch.rand(WIDTH, generator=generator),
    }
    return state | norm


def by_formula(state: dict[str, Tensor], vectors: np.ndarray, bends: int) -> np.ndarray:
    """The published arithmetic in numpy and float64."""
    numbers = {name: tensor.double().numpy() for name, tensor in state.items()}
    x = vectors.astype(np.float64)
    if "norm.mean" in numbers:
        x = (x - numbers["norm.mean"]) / (np.sqrt(numbers["norm.variance"]) + 1e-10)
    for place, name in enumerate(name for name in state if name.endswith("weight")):
        x = x @ numbers[name].T + numbers[name.replace("weight", "bias")]
        x = np.maximum(x, 0) if place < bends else x
    return (1 / (1 + np.exp(-x)) if "norm.mean" in numbers else x)[:, 0]


HEADS = [
    ("aesthetic", linear(), 0),
    ("aesthetic", mlp(), 0),
    ("nsfw", binary(3), 2),
    ("nsfw", binary(4), 3),
    ("nsfw", h14(), 5),
]


class Embedder:
    """Pictures as the vectors in their first row."""

    logit_scale = 1.0

    def embed_images(self, images: list[np.ndarray]) -> np.ndarray:
        return np.stack([unit(image) for image in images])

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        raise AssertionError("heads read no texts")


def unit(image: np.ndarray) -> np.ndarray:
    values = np.resize(image.astype(np.float32).ravel() + 1, WIDTH) - 100
    return values / np.linalg.norm(values)


@pytest.mark.parametrize(("judges", "state", "bends"), HEADS)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_head_says_what_its_formula_says(
    tmp_path: Path, judges: Judges, state: dict[str, Tensor], bends: int, suffix: str
) -> None:
    file = tmp_path / f"head.{suffix}"
    save_file(state, file) if suffix == "safetensors" else torch.save(state, file)
    scorer = HeadScorer(Embedder(), load_head(judges, ModelRef(name=str(file)), "cpu"), "cpu")
    images = [np.random.default_rng(n).integers(0, 256, (9, 5 + n, 3), np.uint8) for n in range(5)]
    found = scorer(images, [""] * 5)
    np.testing.assert_allclose(
        found, by_formula(state, np.stack([unit(i) for i in images]), bends), rtol=1e-5, atol=1e-6
    )
    assert [scorer([image], [""])[0] for image in images] == found


def test_a_head_of_half_precision_is_calculated_in_float32() -> None:
    state = {name: tensor.half() for name, tensor in linear().items()}
    assert {parameter.dtype for parameter in build_head("aesthetic", state).parameters()} == {torch.float32}


def test_a_head_of_another_kind_or_width_is_refused(tmp_path: Path) -> None:
    for judges, state in (("nsfw", mlp()), ("aesthetic", h14()), ("aesthetic", {}), ("nsfw", linear())):
        with pytest.raises(ValueError, match="its weights are"):
            build_head(judges, state)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not follow one of 32"):
        build_head("aesthetic", mlp() | {"layers.2.weight": torch.zeros(16, 31)})
    with pytest.raises(ValueError, match="gives 2 numbers"):
        build_head("aesthetic", weights([""], [WIDTH, 2]))
    torch.save(weights([""], [WIDTH + 1, 1]), tmp_path / "wide.pth")
    head = load_head("aesthetic", ModelRef(name=str(tmp_path / "wide.pth")), "cpu")
    with pytest.raises(ValueError, match="for vectors of 25 numbers, the model gives 24"):
        HeadScorer(Embedder(), head, "cpu")


def test_a_damaged_head_and_one_with_code_are_refused(tmp_path: Path) -> None:
    for number, content in enumerate([b"", b"junk", pickle.dumps(print, protocol=2), pickle.dumps(3, protocol=2)]):
        file = tmp_path / f"{number}.pth"
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{number}\.pth"):
            load_head("aesthetic", ModelRef(name=str(file)), "cpu")
