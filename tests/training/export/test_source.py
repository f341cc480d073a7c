from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.training.fit.toy import LORA, ToyConfig, toy_recipe, toy_settings, write_data
from training.config import Group
from training.export.source import Source, read_source
from training.export.write import export
from training.fit.fit import run_fit
from training.recipes import TYPES
from training.weights import Weights

HEAD = (Group(names="head.*", mode="full", lr=1e-3),)


@pytest.fixture(scope="module", autouse=True)
def _known():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TYPES, "ToyConfig", ToyConfig)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def finished(data: Path) -> Path:
    out = data.parent / "finished"
    run_fit(toy_settings(data, out, toy_recipe(steps=2)))
    return out


def exported(data: Path, start: Path | None, out: Path, groups: tuple[Group, ...]) -> Source:
    run_fit(toy_settings(data, out / "run", toy_recipe(groups=groups, steps=1), start_from=start))
    source = read_source(out / "run", None, use_ema=True)
    export(source, out / "model")
    return source


def moved(source: Source) -> set[str]:
    return {name.partition(".")[0] for name, each in source.family.named_parameters() if each.requires_grad}


def test_what_an_earlier_run_trained_counts_as_trained(data: Path, finished: Path, tmp_path: Path) -> None:
    alone = exported(data, None, tmp_path / "alone", HEAD)
    after = exported(data, finished, tmp_path / "after", HEAD)
    assert moved(alone) == {"head"}
    assert moved(after) == {"inward", "blocks", "head", "gain", "rare"}


def test_updates_upon_what_an_earlier_run_trained_are_merged(
    data: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published weights are not those that the updates were made for."""
    monkeypatch.setattr("training.export.write.bases", lambda _: [("blocks", Weights(name="someone/blocks"))])
    exported(data, None, tmp_path / "alone", LORA)
    assert [each.name for each in (tmp_path / "alone" / "model").glob("blocks*/adapter*.json")] != []
    exported(data, finished, tmp_path / "after", LORA)
    assert not list(tmp_path.glob("after/model/*/adapter*"))
    weights = load_file(tmp_path / "after" / "model" / "blocks" / "model.safetensors")
    assert not any("lora" in name or "base_layer" in name for name in weights)


def test_fresh_parts_that_never_trained_are_written_and_published_ones_only_when_asked_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else has fresh weights."""
    monkeypatch.setattr("training.export.write.bases", lambda _: [("blocks", Weights(name="someone/blocks"))])
    source = exported(data, None, tmp_path, HEAD)
    folders = {path.name for path in (tmp_path / "model").iterdir() if path.is_dir()}
    assert folders == {"encoder", "inward", "head", "own"}
    encoder = load_file(tmp_path / "model" / "encoder" / "model.safetensors")
    assert isinstance(source.family, nn.Module)
    assert torch.equal(encoder["0.weight"], source.family.get_parameter("encoder.0.weight"))
    export(source, tmp_path / "all", include_frozen=True)
    assert (tmp_path / "all" / "blocks").is_dir()
