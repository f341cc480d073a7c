from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stages import STAGES
from stages.base import Context, ModelRef
from stages.models.chat import load_chat
from stages.models.pretrained import load_pretrained
from tests.stages.models.tiny_sam import sam


def test_a_hub_model_that_cannot_be_had_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError) as caught:
        load_pretrained(type(sam()), ModelRef(name="a/b", revision="c"), "cpu", ("sam",))
    told = str(caught.value)
    assert told.startswith("no model 'a/b' at revision 'c': it is not in the hub's cache") and "\n" not in told
    assert "python -m pipeline models prefetch MANIFEST" in told


HUB = {"model": "a/b", "revision": "c"}
WANTS: list[tuple[str, Mapping[str, Any]]] = [
    ("score", {"metric": "clip", **HUB}),
    ("score", {"metric": "clip", "model": "shapes_clip", "processor": "a/b", "processor_revision": "c"}),
    ("score", {"metric": "clip", "library": "open_clip", **HUB}),
    ("embed", {"kind": "clip_image", "library": "open_clip", **HUB}),
    ("embed", {"kind": "dino", **HUB}),
    ("embed", {"kind": "t5", **HUB}),
    ("embed", {"kind": "vae", "subfolder": "vae", **HUB}),
    ("draw", HUB),
    ("control", {"kind": "depth", **HUB}),
    ("recaption", HUB),
    ("ground", {"backend": "grounding_dino", **HUB}),
    ("segment", {"backend": "sam2", **HUB}),
]
"""Every way to a hub model that a manifest has, by stage and parameters."""


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A hub's cache that is empty, and no hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def assert_told_with_the_remedy(error: ValueError, cache: Path) -> None:
    told = str(error)
    assert told.startswith(f"no model 'a/b' at revision 'c': it is not in the hub's cache {cache}") and "\n" not in told
    assert "python -m pipeline models prefetch MANIFEST" in told


@pytest.mark.parametrize(("stage", "params"), WANTS)
def test_whatever_stage_wants_a_hub_model_that_is_not_here_says_so_in_one_line(
    stage: str, params: Mapping[str, Any], offline: Path
) -> None:
    made = STAGES[stage]
    with pytest.raises(ValueError) as caught:
        made.load(made.Params(**params), Context())
    assert_told_with_the_remedy(caught.value, offline)


def test_so_does_a_native_detectors_text_encoder_and_a_chat_model(offline: Path) -> None:
    with pytest.raises(ValueError) as caught:
        load_chat(ModelRef(name="a/b", revision="c"), "cpu", "float32")
    assert_told_with_the_remedy(caught.value, offline)
    pytest.importorskip("groundingdino", reason="groundingdino-py or the libGL that its OpenCV needs is missing")
    pytest.importorskip("groundingdino.models", exc_type=ImportError)
    native = {"backend": "grounding_dino_native", "model": "x.pth"}
    params = STAGES["ground"].Params(**native, text_encoder="a/b", text_encoder_revision="c")
    with pytest.raises(ValueError) as caught:
        STAGES["ground"].load(params, Context())
    assert_told_with_the_remedy(caught.value, offline)


def test_a_folder_that_is_damaged_or_of_another_architecture_is_told_in_a_line(tmp_path: Path) -> None:
    sam().save_pretrained(tmp_path)
    ref = ModelRef(name=str(tmp_path))
    assert not load_pretrained(type(sam()), ref, "cpu", ("sam",)).training
    with pytest.raises(ValueError, match=r"config.json says model_type 'sam', not sam2"):
        load_pretrained(type(sam()), ref, "cpu", ("sam2",))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"cannot load SamModel '{tmp_path}'") as caught:
        load_pretrained(type(sam()), ref, "cpu", ("sam",))
    assert "\n" not in str(caught.value)
