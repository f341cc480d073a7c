"""The vector of no picture without CLIP."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from training.encoders import no_picture as module
from training.encoders.clip import load_clip
from training.encoders.no_picture import no_picture
from training.families.lambda_eclipse import LambdaEclipseConfig
from training.recipe_lambda_eclipse import lambda_eclipse_tiny
from training.weights import Weights

BUNDLED = Weights(name="stages/data/shapes_clip")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INLAY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Weights]:
    """The weights that were looked through."""
    calls: list[Weights] = []
    look = module._seen
    monkeypatch.setattr(module, "_seen", lambda weights: calls.append(weights) or look(weights))
    return calls


def test_it_is_clips_own_to_the_last_bit_and_is_found_once(seen: list[Weights], capfd) -> None:
    expected = load_clip(BUNDLED).see_nothing()
    assert torch.equal(no_picture(BUNDLED), expected)
    assert torch.equal(no_picture(BUNDLED), expected)
    assert len(seen) == 1
    assert "UNEXPECTED" not in capfd.readouterr().err


def test_other_weights_in_the_same_folder_have_another(seen: list[Weights], tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(BUNDLED.name, folder)
    no_picture(Weights(name=str(folder)))
    no_picture(Weights(name=str(folder)))
    os.utime(folder / "model.safetensors", ns=(1, 1))
    no_picture(Weights(name=str(folder)))
    assert len(seen) == 2


def test_it_needs_no_cache(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the cache would be")
    assert torch.equal(no_picture(BUNDLED), load_clip(BUNDLED).see_nothing())


def test_a_prior_that_learns_from_features_loads_no_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    config = lambda_eclipse_tiny().family
    assert isinstance(config, LambdaEclipseConfig)
    monkeypatch.setattr("training.families.lambda_eclipse.load_clip", None)
    family = config.build()
    assert torch.equal(family.get_buffer("no_picture"), no_picture(config.clip))
