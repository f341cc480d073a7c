"""AdaFace's networks with random weights; no checkpoint is at hand."""

import argparse
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save_file

from manifests.record import Point
from stages.alignment import SIDE, TEMPLATE
from stages.base import ModelRef
from stages.models.encoder import BatchEncoder
from stages.models.face_embedder import Depth, FaceNetwork, load_face_network
from stages.models.face_encoder import FaceEncoder, Faces
from stages.models.memory import CallSize
from stages.pixels import Pixels

RECIPE = Path(__file__).parents[3] / "manifests" / "emma_portraits.yaml"


@pytest.fixture(scope="module")
def network() -> FaceNetwork:
    torch.manual_seed(0)
    network = FaceNetwork("ir18")
    with torch.no_grad():  # fresh statistics would leave what comes out almost the same for all faces
        network.train()(torch.randn(4, 3, SIDE, SIDE))
    return network.eval()


def faces(count: int, seed: int = 0) -> list[Pixels]:
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8))


@pytest.mark.parametrize(("depth", "millions"), [("ir18", 24.0), ("ir34", 34.1), ("ir50", 43.6), ("ir101", 65.2)])
def test_the_networks_have_as_many_parameters_as_published(depth: Depth, millions: float) -> None:
    with torch.device("meta"):
        network = FaceNetwork(depth)
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_parts_are_named_as_in_the_authors_checkpoints() -> None:
    with torch.device("meta"):
        names = FaceNetwork("ir50").state_dict().keys()
    assert {
        "input_layer.0.weight",
        "input_layer.2.weight",
        "body.0.res_layer.5.running_var",
        "body.3.shortcut_layer.1.bias",
        "body.23.res_layer.4.weight",
        "output_layer.3.bias",
        "output_layer.4.running_mean",
    } <= names
    assert "body.24.res_layer.0.weight" not in names
    assert "body.0.shortcut_layer.0.weight" not in names


def face_encoder(network: FaceNetwork, per_call: int) -> FaceEncoder:
    calls = CallSize(per_call, "per_call")
    encode = BatchEncoder(
        network=Faces(network), device="cpu", precision=torch.float32, outputs=["vector"], calls=calls
    )
    return FaceEncoder(encode)


def vectors(network: FaceNetwork, pictures: Sequence[Pixels], per_call: int) -> list[npt.NDArray[np.float32]]:
    """Of faces that fill their pictures, aligned as they are."""
    return [said["vector"] for said in face_encoder(network, per_call)([(one, landmarks()) for one in pictures])]


def landmarks(x: float = 0, y: float = 0) -> tuple[Point, ...]:
    return tuple(Point(x=float(across + x), y=float(down + y)) for across, down in TEMPLATE)


def test_vectors_have_length_one_and_tell_faces_apart(network: FaceNetwork) -> None:
    found = np.stack(vectors(network, faces(2), per_call=2))
    assert found.shape == (2, 512) and found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    assert (found @ found.T)[0, 1] < 0.99


def test_a_call_takes_blue_first_and_values_from_minus_one_to_one(network: FaceNetwork) -> None:
    (face,) = faces(1)
    blue_first = torch.from_numpy(face[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        expected = network((blue_first - 0.5) / 0.5).numpy()[0]
    (found,) = vectors(network, [face], per_call=1)
    assert np.abs(found - expected).max() < 1e-5  # float32, 18 layers


def test_a_face_has_its_vector_however_faces_are_batched(network: FaceNetwork) -> None:
    many = faces(3)
    together = vectors(network, many, per_call=2)
    for number in (1, 2):
        alone = vectors(network, many[number:], per_call=2)[0]
        assert np.abs(alone - together[number]).max() < 1e-6  # last bits of float32 sums
    assert np.array_equal(vectors(network, many[1:], per_call=1)[1], vectors(network, many[2:], per_call=1)[0])


def test_no_faces_have_no_vectors(network: FaceNetwork) -> None:
    assert vectors(network, [], per_call=2) == []


def test_a_face_in_a_picture_is_aligned_first(network: FaceNetwork) -> None:
    (face,) = faces(1)
    picture = np.zeros((200, 220, 3), np.uint8)
    picture[40 : 40 + SIDE, 60 : 60 + SIDE] = face
    (found,) = face_encoder(network, 1)([(picture, landmarks(60, 40))])
    assert np.abs(found["vector"] - vectors(network, [face], per_call=1)[0]).max() < 1e-5


def test_a_checkpoint_with_the_trainings_head_is_read(network: FaceNetwork, tmp_path: Path) -> None:
    weights = {f"model.{name}": weight for name, weight in network.state_dict().items()}
    state = {"epoch": 25, "state_dict": {**weights, "head.kernel": torch.zeros(512, 3)}}
    torch.save(state, tmp_path / "adaface_ir18.ckpt")
    save_file(network.state_dict(), tmp_path / "adaface_ir18.safetensors")
    for name in ("adaface_ir18.ckpt", "adaface_ir18.safetensors"):
        loaded = load_face_network(ModelRef(name=str(tmp_path / name)), "ir18", "cpu")
        assert not loaded.training
        assert all(torch.equal(weight, loaded.state_dict()[key]) for key, weight in network.state_dict().items())


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_other_sizes_damage_and_code_are_refused(
    network: FaceNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "face.ckpt"
    ref = ModelRef(name=str(file))
    with pytest.raises(ValueError, match="no model"):
        load_face_network(ref, "ir18", "cpu")
    torch.save({"state_dict": {"model.input_layer.0.weight": torch.zeros(2)}}, file)
    with pytest.raises(ValueError, match=r"cannot load checkpoint .* as FaceNetwork"):
        load_face_network(ref, "ir18", "cpu")
    file.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match="cannot load checkpoint"):
        load_face_network(ref, "ir18", "cpu")
    file.write_bytes(pickle.dumps({"state_dict": Hostile()}, protocol=2))
    with pytest.raises(ValueError, match="cannot load checkpoint"):
        load_face_network(ref, "ir18", "cpu")
    assert "code ran" not in capsys.readouterr().out


def test_what_a_whole_trainings_checkpoint_holds_beside_weights_is_told_with_a_remedy_that_runs_no_code(
    network: FaceNetwork, tmp_path: Path
) -> None:
    file = tmp_path / "face.ckpt"
    ref = ModelRef(name=str(file))
    torch.save({"state_dict": network.state_dict(), "hyper_parameters": argparse.Namespace(lr=0.1)}, file)
    with pytest.raises(ValueError, match=r"it holds argparse\.Namespace.*save its weights alone") as caught:
        load_face_network(ref, "ir18", "cpu")
    assert "weights_only" not in str(caught.value) and str(caught.value).isprintable()


class Callback:
    """Of a training's checkpoint, which keys the states of its callbacks by their classes."""


def test_the_recipe_tells_how_a_checkpoint_with_objects_becomes_weights(
    network: FaceNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = {f"model.{name}": weight for name, weight in network.state_dict().items()}
    whole = {"state_dict": {**state, "head.kernel": torch.zeros(512, 3)}, "callbacks": {Callback: Callback()}}
    torch.save(whole, "adaface_ir50_ms1mv2.ckpt")
    with pytest.raises(ValueError, match=r"it holds [\w.]*Callback, and only tensors are read.*safetensors"):
        load_face_network(ModelRef(name="adaface_ir50_ms1mv2.ckpt"), "ir18", "cpu")
    told = RECIPE.read_text(encoding="utf-8").partition("#     import torch")
    exec((told[1] + told[2].partition("#\n")[0]).replace("#     ", ""), {})
    loaded = load_face_network(ModelRef(name="adaface_ir50_ms1mv2.safetensors"), "ir18", "cpu").state_dict()
    assert all(torch.equal(weight, loaded[name]) for name, weight in network.state_dict().items())


@pytest.mark.parametrize(
    ("content", "cause"),
    [(b"not a checkpoint", r"Unsupported operand \d+"), (b"junk\n", r"KeyError\(\d+\)"), (b"", r"EOFError\(.*\)")],
)
def test_what_is_no_checkpoint_is_told_in_words(content: bytes, cause: str, tmp_path: Path) -> None:
    file = tmp_path / "face.ckpt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"it is damaged, or of another kind \({cause}\)$"):
        load_face_network(ModelRef(name=str(file)), "ir18", "cpu")
