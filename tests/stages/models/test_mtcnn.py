"""MTCNN with the weights in facenet-pytorch, on photographs that come with scikit-image."""

import importlib.util
import pickle
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from manifests.record import Box, Face
from stages.base import ModelRef
from stages.geometry import iou
from stages.models.memory import CallSize
from stages.models.mtcnn import Mtcnn
from stages.models.mtcnn_networks import PNet, load_networks
from stages.models.torchvision_compat import ensure_torchvision
from stages.models.weights import locate, model_use
from stages.pixels import Pixels, resize
from tests.stages.photos import astronaut

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("facenet_pytorch") is None, reason="the weights are in facenet-pytorch, not installed"
)
PACKAGE = ModelRef(name="facenet-pytorch")


def detector(images: int = 1, patches: int = 64, **settings: float) -> Mtcnn:
    proposer, refiner, decider = load_networks(PACKAGE, "cpu")
    return Mtcnn(
        proposer=proposer,
        refiner=refiner,
        decider=decider,
        device="cpu",
        images=CallSize(images, "images_per_call"),
        patches=CallSize(patches, "patches_per_call"),
        **settings,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def one_at_a_time() -> Mtcnn:
    return detector()


def face_picture(side: int = 116) -> Pixels:
    """A picture of the astronaut's face, whose box is about 0.4 of its sides wide."""
    return resize(np.ascontiguousarray(astronaut()[20:250, 100:330]), side, side)


def pair() -> Pixels:
    """A face and a smaller one beside it, on black."""
    canvas = np.zeros((160, 240, 3), np.uint8)
    canvas[:, :160], canvas[20:90, 165:235] = face_picture(160), face_picture(70)
    return canvas


def pictures() -> list[Pixels]:
    """A face, the same mirrored, one in a smaller picture, and a pair."""
    return [face_picture(), face_picture()[:, ::-1].copy(), face_picture(90), pair()]


def numbers(face: Face) -> list[float]:
    return [*face.box.xyxy, face.score, *(part for point in face.landmarks for part in (point.x, point.y))]


def test_the_astronauts_face_is_found_with_its_landmarks(one_at_a_time: Mtcnn) -> None:
    ((face, *others),) = one_at_a_time([astronaut()])
    assert others == [] and face.score > 0.99
    # Box and landmarks read off the photograph by eye; she looks into the camera.
    assert iou(face.box, Box(x0=178, y0=62, x1=270, y1=186)) > 0.75
    places = [(207, 101), (247, 103), (225, 128), (202, 140), (246, 140)]
    assert np.array([(point.x, point.y) for point in face.landmarks]) == pytest.approx(np.array(places), abs=5)


def test_a_face_moves_and_grows_with_its_picture(one_at_a_time: Mtcnn) -> None:
    placed = np.zeros((200, 180, 3), np.uint8)
    placed[70:186, 40:156] = face_picture()
    ((before,),) = one_at_a_time([face_picture()])
    ((after,),) = one_at_a_time([placed])
    ((large,),) = one_at_a_time([face_picture(232)])
    assert np.array(after.box.xyxy) - (40, 70, 40, 70) == pytest.approx(before.box.xyxy, abs=5)
    assert np.array(large.box.xyxy) / 2 == pytest.approx(before.box.xyxy, abs=5)


def test_two_faces_are_found_apart_unless_one_is_too_small(one_at_a_time: Mtcnn) -> None:
    (faces,) = one_at_a_time([pair()])
    assert [face.box.x0 < 160 for face in sorted(faces, key=lambda face: face.box.x0)] == [True, False]
    ((large,),) = detector(min_side=60)([pair()])
    assert large.box.x1 < 160


def test_faces_are_the_same_however_pictures_are_batched(one_at_a_time: Mtcnn) -> None:
    mixed = [pictures()[number] for number in (0, 2, 1, 3, 0)]
    alone = [one_at_a_time([picture])[0] for picture in mixed]
    assert one_at_a_time(mixed) == alone
    assert one_at_a_time(mixed[::-1]) == alone[::-1]
    for together, single in zip(detector(images=2, patches=5)(mixed), alone, strict=True):
        assert len(together) == len(single)
        for face, other in zip(together, single, strict=True):
            assert numbers(face) == pytest.approx(numbers(other), abs=1e-2)  # last bits of float32 sums, in pixels


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (19, 500), (60, 60), (200, 21)])
@pytest.mark.parametrize("fill", ["black", "noise"])
def test_pictures_without_a_face_have_none(one_at_a_time: Mtcnn, shape: tuple[int, int], fill: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    assert one_at_a_time([noise if fill == "noise" else noise * 0]) == [[]]
    assert one_at_a_time([]) == []


def test_weights_that_are_no_numbers_find_nothing() -> None:
    broken = detector()
    broken.decider.dense6_2.weight.fill_(float("nan"))
    assert broken([pictures()[0]]) == [[]]
    broken.proposer.conv1.weight.fill_(float("nan"))
    assert broken([pictures()[0]]) == [[]]


def _plain_nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    kept: list[int] = []
    for number in scores.argsort(descending=True, stable=True).tolist():
        a, b = boxes[number], boxes[kept]
        sides = (torch.minimum(a[2:], b[:, 2:]) - torch.maximum(a[:2], b[:, :2])).clamp(min=0)
        shared, areas = sides.prod(1), [(box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b)]
        if not (shared / (areas[0] + areas[1] - shared) > threshold).any():
            kept.append(number)
    return torch.tensor(kept, dtype=torch.long)


@pytest.fixture
def _torchvision_can_suppress(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torchvision's own NMS is compiled, and not there on CPUs with the GPU wheel."""
    ensure_torchvision()
    import torchvision.extension
    import torchvision.ops.boxes

    monkeypatch.setattr(torchvision.extension, "_has_ops", lambda: True)
    monkeypatch.setattr(torchvision.ops.boxes, "nms", _plain_nms)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.usefixtures("_torchvision_can_suppress")
def test_faces_are_those_that_facenet_pytorch_finds(one_at_a_time: Mtcnn) -> None:
    from facenet_pytorch import MTCNN

    theirs = MTCNN(keep_all=True, select_largest=False)
    for picture in pictures():
        (mine,) = one_at_a_time([picture])
        boxes, scores, points = theirs.detect(picture, landmarks=True)
        assert len(mine) == len(boxes) > 0
        expected = np.concatenate([boxes - (1, 1, 0, 0), scores[:, None], points.reshape(-1, 10)], axis=1)
        # One pixel: theirs count from 1. 1e-3 pixels: both are float32, and a mean's last bit differs.
        assert np.array([numbers(face) for face in mine]) == pytest.approx(expected.astype(float), abs=1e-3)


def test_the_packages_weights_are_named_by_package_and_hash() -> None:
    use = model_use(PACKAGE)
    assert use.name == "facenet-pytorch" and use.revision.startswith("sha256:")
    assert Path(locate(PACKAGE), "onet.pt").is_file()


def test_a_missing_package_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install --no-deps facenet-pytorch"):
        locate(PACKAGE)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_weights_in_a_folder_are_read_and_bad_ones_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mtcnn"
    shutil.copytree(locate(PACKAGE), folder)
    ref = ModelRef(name=str(folder))
    (proposer, *_) = load_networks(ref, "cpu")
    assert torch.equal(proposer.conv1.weight, load_networks(PACKAGE, "cpu")[0].conv1.weight)
    torch.save(PNet().state_dict(), folder / "rnet.pt")
    with pytest.raises(ValueError, match=r"cannot load checkpoint .*rnet\.pt as RNet"):
        load_networks(ref, "cpu")
    (folder / "rnet.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"cannot load checkpoint .*rnet\.pt"):
        load_networks(ref, "cpu")
    (folder / "rnet.pt").write_bytes(pickle.dumps(Hostile(), protocol=2))
    with pytest.raises(ValueError, match=r"cannot load checkpoint .*rnet\.pt"):
        load_networks(ref, "cpu")
    (folder / "rnet.pt").unlink()
    with pytest.raises(ValueError, match=r"no model .*rnet\.pt"):
        load_networks(ref, "cpu")
    assert "code ran" not in capsys.readouterr().out
