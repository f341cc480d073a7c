"""A run of the tiny MUMU in the paper's modes: trained, drawn from and exported by the commands."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from tests.training.stream.runs import write_run
from training.__main__ import app
from training.families.base import Conditions, SampleConfig
from training.families.branches import without_images
from training.families.mumu import Mumu
from training.fit.fit import FitSettings, run_fit
from training.fit.runs import open_run, read_recipe
from training.generate.compose import compose
from training.generate.template import parse_template
from training.modules.unet import build_sdxl_unet
from training.recipe_mumu import mumu, mumu_tiny
from training.stream.options import StreamOptions
from training.stream.source import Dataset
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights

ensure_torchvision()

from peft import PeftModel  # noqa: E402


def saved_unet(folder: Path, seed: int) -> Weights:
    torch.manual_seed(seed)
    build_sdxl_unet(mumu_tiny().family.unet).save_pretrained(folder)
    return Weights(name=str(folder))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of the paper's modes, at rates that show, from a U-Net as it is published."""
    folder = tmp_path_factory.mktemp("mumu")
    tiny = mumu_tiny()
    recipe = replace(
        tiny,
        family=replace(tiny.family, unet=saved_unet(folder / "base", 0)),
        groups=tuple(replace(group, lr=group.lr and 1e-2) for group in mumu().groups),
        batch_size=4,
        micro_batch=2,
        steps=2,
        ema=0.5,
    )
    data = write_run(folder / "data", units=1, rows=8)
    options = StreamOptions(cache=folder / "cache", window=64, block=4, threads=1)
    run_fit(FitSettings(recipe=recipe, data=(Dataset(url=str(data)),), out=folder / "run", options=options))
    return folder / "run"


def call(*arguments: object) -> list[Path]:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.stderr
    return [Path(line) for line in result.stdout.splitlines()]


def test_it_draws_by_its_command(run: Path, tmp_path: Path):
    Image.new("RGB", (30, 20), (200, 100, 50)).save(tmp_path / "dog.png")
    draw = ("generate", "--run", run, "--steps", 2, "--out", tmp_path)
    (shown,) = call(*draw, "--prompt", "a {0:dog} in the sun", "--image", tmp_path / "dog.png")
    (told,) = call(*draw, "--prompt", "a dog in the sun")
    assert np.asarray(Image.open(shown)).shape == (32, 32, 3)
    assert shown.read_bytes() != told.read_bytes()
    facts = json.loads(shown.with_suffix(".json").read_text())
    assert (facts["recipe"], facts["prompt"]) == ("mumu_tiny", "a {0:dog} in the sun")


def test_prompts_of_people_are_written_as_training_has_them():
    prompt = compose(parse_template("a {0:man} and his {1} dog"), Mumu.insertion, mumu_tiny().stream.builder)
    assert prompt.interleaved.render() == "a <subject0> man and his <subject1> dog"
    assert without_images(prompt).interleaved.render() == "a man and his dog"
    assert {reference.side for reference in prompt.references} == {16}
    along = compose(parse_template("{0:canny} a {1} man"), Mumu.insertion, mumu_tiny().stream.builder)
    assert along.interleaved.render() == "<subject0> canny a <subject1> man"


def test_it_is_exported_part_by_part(run: Path, tmp_path: Path):
    call("export", "--run", run, "--out", tmp_path / "out")
    folders = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert {"adapter", "unet", "mllm_network_model"} <= folders
    plain = json.loads((tmp_path / "out" / "unet" / "adapter_config.json").read_text())
    assert (plain["r"], plain["lora_alpha"], plain["base_model_name_or_path"]) == (8, 8.0, str(run.parent / "base"))
    assert not (tmp_path / "out" / "mllm_network_model" / "adapter_config.json").exists()  # it began with fresh weights
    assert not list(tmp_path.rglob("*.bin"))


def test_a_run_draws_with_a_communitys_unet_as_with_its_exported_updates_merged_into_it(run: Path, tmp_path: Path):
    community = saved_unet(tmp_path / "community", 1)
    recipe = read_recipe(run)
    _, own = open_run(run)
    _, other = open_run(run, recipe=replace(recipe, family=replace(recipe.family, unet=community)))
    call("export", "--run", run, "--out", tmp_path / "out")
    _, merged = open_run(run)
    assert isinstance(merged, nn.Module)
    merged.unet = PeftModel.from_pretrained(build_sdxl_unet(community), tmp_path / "out" / "unet").merge_and_unload()
    prompt = compose(parse_template("a dog"), Mumu.insertion, None)
    asked = Conditions(prompts=(prompt,), references=((),), features={})
    found = [family.sample(asked, SampleConfig(steps=2)).int() for family in (own, other, merged.eval())]
    assert (found[1] - found[2]).abs().max() <= 1  # of 255: updates added to weights first
    assert (found[1] - found[0]).abs().max() > 8
