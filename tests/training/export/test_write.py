import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from tests.training.painter import PainterConfig, fit_painter, painter_recipe
from training.__main__ import app
from training.config import Group, Lora
from training.export.source import Source
from training.export.write import export
from training.families.base import FamilyConfig
from training.fit.checkpoint import Notes
from training.fit.groups import choose
from training.fit.runs import read_recipe
from training.fit.skip import Skips
from training.recipes import TYPES
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights

ensure_torchvision()

from diffusers import UNet2DConditionModel  # noqa: E402
from peft import PeftModel  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel  # noqa: E402

LATENTS, TIME, CONTEXT = torch.randn(2, 4, 8, 8), torch.tensor([3, 9]), torch.randn(2, 5, 8)
LORA = Group(names="unet.*", mode="lora", lr=1, lora=Lora(rank=2, alpha=4, targets=("to_q", "to_v")))


def tiny_unet() -> nn.Module:
    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=2,
    )


def tiny_text() -> nn.Module:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPTextModel(CLIPTextConfig(vocab_size=20, max_position_embeddings=8, **sizes))


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsConfig:
    unet: Weights
    encoder: Weights

    def build(self, *, load: bool = True) -> nn.Module:
        return Parts()


PARTS = PartsConfig(unet=Weights(name="someone/unet", revision="abc"), encoder=Weights(name="someone/text"))


class Parts(nn.Module):
    """A model, one within a module of ours, a module of ours, and a parameter beside them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.unet = tiny_unet()
        self.encoder = nn.ModuleDict({"network": tiny_text()})
        self.connector = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8))
        self.scale = nn.Parameter(torch.ones(1))

    def predict(self) -> torch.Tensor:
        with torch.no_grad():
            return self.unet(LATENTS, TIME, CONTEXT).sample


def trained(*groups: Group, family: FamilyConfig = PARTS) -> Source:
    """A family whose trained weights are not what they were."""
    recipe = painter_recipe(family=family, groups=groups)
    module = recipe.family.build().eval()
    choose(module, groups)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) * parameter.requires_grad)
    sources = [{"units": "000000", "samples": 8, "stripes": ["a"]}]
    notes = Notes(family="PartsConfig", step=7, skips=Skips(), stream={"eras": [{"sources": sources}]})
    return Source(recipe=recipe, family=module, notes=notes, use_ema=True)


def full(names: str) -> Group:
    return Group(names=names, mode="full", lr=1)


def folders(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.is_dir())


def test_a_trained_model_is_loaded_by_its_own_class(tmp_path: Path):
    source = trained(full("unet.*"))
    export(source, tmp_path / "out")

    loaded = UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet", use_safetensors=True).eval()
    with torch.no_grad():
        assert torch.equal(loaded(LATENTS, TIME, CONTEXT).sample, source.family.predict())
    assert folders(tmp_path / "out") == ["connector", "own", "unet"] and not list(tmp_path.rglob("*.bin"))


def test_frozen_parts_are_written_when_asked_for(tmp_path: Path):
    source = trained(full("connector.*"))
    export(source, tmp_path / "out", include_frozen=True)

    assert folders(tmp_path / "out") == ["connector", "encoder_network", "own", "unet"]
    text = CLIPTextModel.from_pretrained(tmp_path / "out" / "encoder_network")
    assert all(
        torch.equal(value, text.state_dict()[k]) for k, value in source.family.encoder.network.state_dict().items()
    )


def test_updates_are_an_adapter_that_peft_puts_on_the_base(tmp_path: Path):
    source = trained(LORA)
    export(source, tmp_path / "out")

    adapted = PeftModel.from_pretrained(Parts().unet, tmp_path / "out" / "unet").eval()
    with torch.no_grad():
        found = adapted(LATENTS, TIME, CONTEXT).sample
    assert torch.equal(found, source.family.predict())
    assert not torch.allclose(found, Parts().eval().predict(), atol=1e-3)
    plain = json.loads((tmp_path / "out" / "unet" / "adapter_config.json").read_text())
    assert (plain["r"], plain["lora_alpha"], plain["base_model_name_or_path"]) == (2, 4, "someone/unet")


def test_adapters_keep_ranks_of_their_own(tmp_path: Path):
    other = replace(LORA, names="unet.mid_block.*", lora=Lora(rank=3, alpha=1, targets=("to_k",)))
    source = trained(other, LORA)
    export(source, tmp_path / "out")

    adapted = PeftModel.from_pretrained(Parts().unet, tmp_path / "out" / "unet").eval()
    with torch.no_grad():
        assert torch.equal(adapted(LATENTS, TIME, CONTEXT).sample, source.family.predict())


def test_a_model_that_trains_otherwise_too_is_merged(tmp_path: Path):
    source = trained(full("unet.conv_in.*"), LORA)
    before = source.family.predict()
    export(source, tmp_path / "out")

    loaded = UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet").eval()
    with torch.no_grad():
        # merging adds the update to the weight before it is multiplied: sums of float32 in another order
        assert torch.allclose(loaded(LATENTS, TIME, CONTEXT).sample, before, atol=1e-5)


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshConfig:
    def build(self, *, load: bool = True) -> nn.Module:
        return Parts()


def test_updates_of_fresh_weights_are_merged_as_there_is_no_base_to_put_them_on(tmp_path: Path):
    source = trained(LORA, family=FreshConfig())
    before = source.family.predict()
    export(source, tmp_path / "out")

    assert not list(tmp_path.rglob("adapter*"))
    loaded = UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet").eval()
    with torch.no_grad():
        assert torch.allclose(loaded(LATENTS, TIME, CONTEXT).sample, before, atol=1e-5)
    assert "published weights" not in (tmp_path / "out" / "README.md").read_text()


def test_an_adapters_base_is_found_wherever_the_configuration_or_the_model_names_it(tmp_path: Path):
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Nested(FreshConfig):
        decoder: PartsConfig = PARTS

    export(trained(LORA, family=Nested()), tmp_path / "nested")
    source = trained(LORA, family=FreshConfig())
    source.family.unet.register_to_config(_name_or_path="someone/loaded")
    export(source, tmp_path / "loaded")

    for name, base in {"nested": "someone/unet", "loaded": "someone/loaded"}.items():
        plain = json.loads((tmp_path / name / "unet" / "adapter_config.json").read_text())
        assert plain["base_model_name_or_path"] == base


def test_modules_of_ours_are_safetensors_beside_what_builds_them(tmp_path: Path):
    source = trained(full("connector.*"), full("scale"))
    export(source, tmp_path / "out")

    fresh = Parts()
    fresh.connector.load_state_dict(load_file(tmp_path / "out" / "connector" / "model.safetensors"))
    assert torch.equal(fresh.connector(CONTEXT), source.family.connector(CONTEXT))
    assert torch.equal(load_file(tmp_path / "out" / "own" / "model.safetensors")["scale"], source.family.scale)
    config = json.loads((tmp_path / "out" / "connector" / "config.json").read_text())
    assert (config["part"], config["family"]["type"]) == ("connector", "PartsConfig")


def test_the_card_tells_what_it_was_made_from(tmp_path: Path):
    export(trained(LORA, full("connector.*")), tmp_path / "out")

    card = (tmp_path / "out" / "README.md").read_text()
    assert re.search(r"^base_model:\n  - someone/text\n  - someone/unet$", card, re.MULTILINE)
    for words in (
        "moving averages, decay 0.5",
        "| 7 of 4 samples",
        "8 samples, fingerprint `",
        "`someone/unet` at revision `abc`",
    ):
        assert words in card
    assert '`PeftModel.from_pretrained(base, "unet")`' in card and "**Licence.**" in card


def test_nothing_is_overwritten_and_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    source = trained(full("connector.*"))
    with pytest.raises(FileExistsError, match="is there already and is not overwritten"):
        export(source, tmp_path / "full")

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(FileExistsError, match="the folder that you are in"):
        export(source, Path())
    (tmp_path / "here").rmdir()

    monkeypatch.setattr("training.export.write.write_card", lambda *_: 1 / 0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError):
        export(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TYPES, "PainterConfig", PainterConfig)
        yield fit_painter(tmp_path_factory.mktemp("painter"))


def test_the_command_exports_a_runs_averages_or_its_weights(run: Path, tmp_path: Path):
    def exported(name: str, *options: str) -> torch.Tensor:
        result = CliRunner().invoke(app, ["export", "--run", str(run), "--out", str(tmp_path / name), *options])
        assert result.exit_code == 0, result.stderr
        assert result.stdout.split() == [str(tmp_path / name / "own"), str(tmp_path / name / "README.md")]
        return load_file(tmp_path / name / "own" / "model.safetensors")["shade"]

    averaged, plain, early = exported("a"), exported("b", "--no-ema"), exported("c", "--no-ema", "--step", "1")

    assert len({averaged.item(), plain.item(), early.item()}) == 3
    assert read_recipe(tmp_path / "a") == read_recipe(run)


def test_a_folder_that_is_no_run_is_an_error_to_correct(tmp_path: Path):
    result = CliRunner().invoke(app, ["export", "--run", str(tmp_path), "--out", str(tmp_path / "out")])

    assert result.exit_code == 2 and "is no run of training" in result.stderr
