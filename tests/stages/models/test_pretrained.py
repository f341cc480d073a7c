from pathlib import Path

import pytest

from stages.base import ModelRef
from stages.models.pretrained import load_pretrained
from tests.stages.models.tiny_sam import sam


def test_a_hub_model_that_cannot_be_had_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError) as caught:
        load_pretrained(type(sam()), ModelRef(name="a/b", revision="c"), "cpu", ("sam",))
    told = str(caught.value)
    assert told.startswith("no model 'a/b' at revision 'c': it is not in the hub's cache") and "\n" not in told
    assert "python -m pipeline models prefetch MANIFEST" in told


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
