"""The two Grounding DINOs: one network in both gives the same; what is no model of theirs is refused."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.base import ModelRef
from stages.models.detector import Detections
from stages.models.frame import Frame
from stages.models.grounding_dino import GroundingDino, Loaded, load_grounding_dino
from stages.models.parts import load_part
from stages.pixels import read_picture
from tests.stages.models.test_detector import IMAGES, PHRASES, assert_same
from tests.stages.models.tiny_grounding_dino import batched, save, tokenizer

pytestmark = [
    pytest.mark.filterwarnings("ignore:Importing from timm.models.layers:FutureWarning"),
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
    pytest.mark.filterwarnings("ignore:.torch.cuda.amp.autocast:FutureWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("detector")
    save(place)
    return place


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def load(folder: Path) -> Loaded:
    return load_grounding_dino(ModelRef(name=str(folder)), "cpu")


def test_a_folder_gives_network_tokenizer_and_size(folder: Path) -> None:
    loaded = load(folder)
    assert loaded.frame == Frame(short_side=64, long_side=107)
    detector = batched(loaded.network, frame=loaded.frame, writer=loaded.writer)
    assert_same(detector(IMAGES[:2], PHRASES[:2]), batched()(IMAGES[:2], PHRASES[:2]), tolerance=1e-6)


@pytest.mark.parametrize(
    ("file", "message"),
    [("config.json", "config"), ("model.safetensors", "model.safetensors"), ("preprocessor_config.json", "Processor")],
)
def test_a_folder_that_lacks_a_file_is_refused(copy: Path, file: str, message: str) -> None:
    (copy / file).unlink()
    with pytest.raises(ValueError, match=message):
        load(copy)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json", "preprocessor_config.json"])
def test_a_damaged_file_is_refused(copy: Path, file: str) -> None:
    (copy / file).write_bytes((copy / file).read_bytes()[:-40])
    with pytest.raises(ValueError, match="cannot load"):
        load(copy)


def test_another_architecture_is_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "sam"}))
    with pytest.raises(ValueError, match="model_type 'sam', not grounding-dino"):
        load(copy)


def test_the_size_of_pictures_is_to_be_by_sides(copy: Path) -> None:
    file = copy / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"size": {"height": 64, "width": 64}}))
    with pytest.raises(ValueError, match="shortest_edge and longest_edge"):
        load(copy)


def test_a_model_that_is_nowhere_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model"):
        load(tmp_path / "nothing")


@pytest.fixture(scope="module")
def native() -> Any:
    pytest.importorskip("groundingdino", reason="groundingdino-py or the libGL that its OpenCV needs is missing")
    pytest.importorskip("groundingdino.models", exc_type=ImportError)
    from tests.stages.models import native_grounding_dino

    return native_grounding_dino


@pytest.fixture(scope="module")
def network(native: Any) -> Any:
    return native.native_grounding_dino()


SOME = [0, 1, 3, 6, 7]
"""Pictures that share calls and others, prompts of all lengths."""


def asked(network: Any) -> list[Detections]:
    return batched(network)([IMAGES[number] for number in SOME], [PHRASES[number] for number in SOME])


def test_native_and_transformers_agree_on_boxes_scores_and_phrases(native: Any, network: Any) -> None:
    ours = asked(native.native.NativeGroundingDino(network))
    theirs = asked(GroundingDino(native.as_transformers(network)))
    assert np.ptp(ours[2].scores) > 0.2 and np.ptp(ours[2].boxes) > 50
    # float32 through 2 + 2 layers, whose sums two packages order differently: 2e-5 of a side and of a probability
    assert_same(ours, theirs, tolerance=2e-5)
    for one, other in zip(ours, theirs, strict=True):
        best = np.sort(one.scores, axis=1)[:, -2:]
        is_clear = np.ptp(best, axis=1) > 1e-4
        assert np.array_equal(one.scores[is_clear].argmax(axis=1), other.scores[is_clear].argmax(axis=1))


def test_native_batched_equals_one_by_one(native: Any, network: Any) -> None:
    detector = batched(native.native.NativeGroundingDino(network))
    alone = [detector([IMAGES[number]], [PHRASES[number]])[0] for number in SOME]
    assert_same(asked(detector.network), alone)


def test_a_picture_that_needs_no_padding_gets_what_the_package_itself_predicts(native: Any, network: Any) -> None:
    from groundingdino.util.inference import predict

    (ours,) = batched(native.native.NativeGroundingDino(network))([IMAGES[4]], [["red dog", "cat"]])
    pixels, _ = batched().frame.fill([batched().frame.draw(read_picture(IMAGES[4]))], 1, (64, 64), "cpu")
    network.tokenizer, as_it_was = tokenizer(), network.tokenizer
    boxes, scores, _ = predict(network, pixels[0], "red dog . cat .", 0.0, 0.0, device="cpu")
    network.tokenizer = as_it_was
    halves = boxes.numpy()[:, 2:] / 2
    corners = np.hstack([boxes.numpy()[:, :2] - halves, boxes.numpy()[:, :2] + halves]) * 64
    assert ours.boxes == pytest.approx(corners, abs=1e-3)
    assert (ours.scores.max(axis=1) <= scores.numpy() + 1e-5).all()  # the package counts the dots as well
    assert np.abs(ours.scores.max(axis=1) - scores.numpy()).min() < 1e-5


@pytest.fixture(scope="module")
def checkpoint(native: Any, network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As released: under "model", of a parallel run, with what is left over from training."""
    place = tmp_path_factory.mktemp("native")
    native.save_text_encoder(place / "bert")
    extra = {"label_enc.weight": torch.zeros(3, 4), "bert.embeddings.position_ids": torch.arange(512)[None]}
    weights = {f"module.{name}": weight for name, weight in (network.state_dict() | extra).items()}
    torch.save({"model": weights, "epoch": 15}, place / "swin_t.pth")
    return place / "swin_t.pth"


@pytest.fixture
def load_native(native: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    native.reduce_sizes(monkeypatch)

    def load(file: Path = checkpoint, model_type: str = "swin_t", text_encoder: Path | None = None) -> Loaded:
        bert = ModelRef(name=str(text_encoder or checkpoint.parent / "bert"))
        loaded: Loaded = native.native.load_native(model_type, ModelRef(name=str(file)), bert, "cpu")
        return loaded

    return load


def test_a_released_checkpoint_loads_as_the_network_it_was(load_native: Any, network: Any) -> None:
    loaded = load_native()
    assert loaded.frame == Frame(short_side=800, long_side=1333, is_rounded_first=True)
    weights = loaded.network.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in network.state_dict().items())
    assert loaded.writer.write(["red dog"]) == batched().writer.write(["red dog"])


def test_a_checkpoint_of_another_size_is_refused(load_native: Any) -> None:
    with pytest.raises(ValueError, match=r"Missing key|size mismatch"):
        load_native(model_type="swin_b")


def test_a_pickle_with_code_is_refused_and_not_run(load_native: Any, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "trap.pth").write_bytes(pickle.dumps({"model": Trap()}, protocol=2))
    with pytest.raises(ValueError, match="cannot load checkpoint"):
        load_native(tmp_path / "trap.pth")
    assert not (tmp_path / "ran").exists()


def test_a_damaged_checkpoint_or_a_missing_part_is_told(load_native: Any, tmp_path: Path) -> None:
    (tmp_path / "half.pth").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(ValueError, match="cannot load checkpoint"):
        load_native(tmp_path / "half.pth")
    with pytest.raises(ValueError, match="no model"):
        load_native(text_encoder=tmp_path / "nothing")
    with pytest.raises(ValueError, match="cannot load the"):
        load_native(text_encoder=tmp_path)


def test_the_packages_own_loaders_are_back_after_a_load(native: Any, load_native: Any) -> None:
    package = native.native.package
    before = package.get_tokenlizer, package.BertModelWarper
    load_native()
    assert (package.get_tokenlizer, package.BertModelWarper) == before


def test_the_tokenizer_of_a_saved_model_is_the_one_that_was_saved(folder: Path) -> None:
    from transformers import AutoTokenizer

    assert (
        load_part(AutoTokenizer, ModelRef(name=str(folder)))("red dogs").input_ids == tokenizer()("red dogs").input_ids
    )
