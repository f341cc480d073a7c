import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stages.base import ModelRef
from stages.models.drawer import BatchDrawer
from stages.models.memory import CallSize
from stages.models.pidinet import PiDiNet, Sketch, load_pidinet, to_common
from stages.pixels import Pixels

RING = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
"""The eight neighbours, row and column in 3 x 3, clockwise."""


def released() -> dict[str, Tensor]:
    """Weights of pixel differences, all kernels 3 x 3, as the authors' training has them."""
    torch.manual_seed(0)
    return {
        name: torch.randn(*weight.shape[:2], 3, 3) * 0.2
        if weight.shape[-1:] == (5,)
        else torch.randn_like(weight) * 0.2
        for name, weight in PiDiNet().state_dict().items()
    }


def test_the_network_has_the_weights_that_the_paper_counts() -> None:
    assert sum(weight.numel() for weight in released().values()) == pytest.approx(710_000, abs=500)  # Table 5: 710K


def test_converted_kernels_are_the_differences_of_the_paper() -> None:
    state = released()
    common = to_common(state)
    patch = torch.randn(5, 5, dtype=torch.float64)
    inner = patch[1:4, 1:4]

    def weights(name: str) -> tuple[Tensor, Tensor]:
        key = f"{name}.conv1.weight"
        return state[key][0, 0].double(), common[key][0, 0].double()

    raw, made = weights("block2_1")
    central = (raw * (inner - inner[1, 1])).sum()
    assert torch.isclose((made * inner).sum(), central, atol=1e-5)

    raw, made = weights("block2_2")
    angular = sum(raw[a] * inner[a] - raw[a] * inner[b] for a, b in zip(RING, [*RING[1:], RING[0]], strict=True))
    assert torch.isclose((made * inner).sum(), torch.as_tensor(angular), atol=1e-5)

    raw, made = weights("block2_3")
    pairs = [((2 * y, 2 * x), (y + 1, x + 1)) for y, x in RING]
    order = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)]
    radial = sum(
        raw.flatten()[number] * (patch[dict(zip(RING, pairs, strict=True))[at][0]] - inner[at])
        for number, at in enumerate(order, 1)
    )
    assert made.shape == (5, 5) and torch.isclose((made * patch).sum(), torch.as_tensor(radial), atol=1e-5)

    raw, made = weights("block2_4")
    assert torch.equal(raw, made)


def test_differences_of_a_plain_picture_are_nothing() -> None:
    for name, weight in to_common(released()).items():
        if name.endswith("conv1.weight") and name[:6] in {"block1", "block2", "block3", "block4"}:
            is_common = name[:8] in {"block1_3", "block2_4", "block3_4", "block4_4"}
            assert (weight.sum((2, 3)).abs().max() < 1e-5) == (not is_common), name


def image(seed: int, height: int, width: int) -> Pixels:
    small = np.random.default_rng(seed).random((3, 4, 5)).astype(np.float32)
    grown = functional.interpolate(torch.tensor(small)[None], (height, width), mode="nearest")[0]
    return (grown.permute(1, 2, 0) * 255).to(torch.uint8).numpy()


def drawer(network: Sketch, images_per_call: int = 2) -> BatchDrawer:
    calls = CallSize(images_per_call, "images_per_call")
    return BatchDrawer(network=network, device="cpu", precision=torch.float32, calls=calls)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Sketch:
    file = tmp_path_factory.mktemp("pidinet") / "table5_pidinet.pth"
    plain: Mapping[str, object] = {
        "epoch": 19,
        "state_dict": {f"module.{name}": weight for name, weight in released().items()},
    }
    torch.save(plain, file)
    return load_pidinet(ModelRef(name=str(file)), "cpu")


def test_every_layout_of_a_checkpoint_gives_the_same_network(network: Sketch, tmp_path: Path) -> None:
    pixels = network.prepare(image(0, 33, 40))[None]
    for name, state in [("plain", released()), ("converted", to_common(released()))]:
        torch.save(dict(state), tmp_path / name)
        other = load_pidinet(ModelRef(name=str(tmp_path / name)), "cpu")
        assert torch.equal(other.infer(pixels), network.infer(pixels))


def test_sketches_of_mixed_and_tiny_sizes_are_the_same_however_they_are_batched(network: Sketch) -> None:
    images = [image(n, *size) for n, size in enumerate([(33, 40), (40, 33), (33, 40), (33, 40), (1, 30), (3, 2)])]
    together = drawer(network)(images)
    for pixels, made in zip(images, together, strict=True):
        assert made is not None and made.shape == pixels.shape[:2]
        (alone,) = drawer(network)([pixels])
        assert alone is not None and np.array_equal(alone, made)
    assert together[0] is not None and together[0].std() > 0


def test_a_sketch_that_is_no_number_is_none(network: Sketch) -> None:
    assert network.finish(torch.full((8, 8), float("nan")), 8, 8) is None
    blank = network.finish(torch.zeros(8, 8), 8, 8)
    assert blank is not None and not blank.any()


class Code:
    """Pickled, it would run a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


@pytest.mark.parametrize("content", ["code", "truncated", "other", "text", "empty"])
def test_checkpoints_that_are_none_are_refused_in_a_line(content: str, tmp_path: Path, capsys: object) -> None:
    file = tmp_path / "table5_pidinet.pth"
    torch.save(released(), file)
    match content:
        case "code":
            file.write_bytes(pickle.dumps({"state_dict": Code()}, protocol=2))
        case "truncated":
            file.write_bytes(file.read_bytes()[:-5000])
        case "other":
            torch.save({"state_dict": {"fc.weight": torch.zeros(2, 2)}}, file)
        case "text":
            file.write_text("<html>")
        case "empty":
            file.write_bytes(b"")
    with pytest.raises(ValueError, match="cannot load checkpoint") as caught:
        load_pidinet(ModelRef(name=str(file)), "cpu")
    assert "\n" not in str(caught.value)
    assert "code ran" not in capsys.readouterr().out  # type: ignore[attr-defined]


def test_the_checkpoint_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set model to the checkpoint file itself"):
        load_pidinet(ModelRef(name=str(tmp_path)), "cpu")
