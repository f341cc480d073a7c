"""Runs of EMMA put together: one that reads the conditions of all, and says what each said."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.training.families.eclipse import write_features
from training.__main__ import app
from training.config import Recipe
from training.fit.fit import FitSettings, run_fit
from training.fit.runs import read_recipe
from training.recipe_emma import ella_tiny, emma_tiny
from training.stream.options import StreamOptions
from training.stream.source import Dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a run of ELLA, two of EMMA upon it, and one that began with another ELLA."""
    root = tmp_path_factory.mktemp("emma")
    write_features(root / "data")
    train(root, "ella", ella_tiny())
    open_gates = replace(emma_tiny(), family=with_strength(0.5))
    train(root, "first", open_gates, start="ella")
    train(root, "second", replace(open_gates, ema=0.5), start="ella", steps=4)
    train(root, "elsewhere", open_gates)
    for name, colour in (("red", (230, 20, 20)), ("blue", (20, 20, 230))):
        Image.new("RGB", (40, 30), colour).save(root / f"{name}.png")
    return root


def with_strength(strength: float):
    family = emma_tiny().family
    return replace(family, conditions=tuple(replace(each, strength=strength) for each in family.conditions))


def train(root: Path, name: str, recipe: Recipe, start: str | None = None, **changes: object) -> None:
    recipe = replace(recipe, batch_size=4, micro_batch=4, **{"steps": 2, **changes})
    options = StreamOptions(cache=root / "cache", threads=1)
    source, begun = (Dataset(url=str(root / "data")),), root / start if start else None
    run_fit(FitSettings(recipe=recipe, data=source, out=root / name, options=options, start_from=begun))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def composed(folder: Path, name: str, *runs: str, scales: tuple[float, ...] = ()) -> Path:
    given = [("--run", folder / run) for run in runs] + [("--scale", scale) for scale in scales]
    result = call("compose", *(part for pair in given for part in pair), "--out", folder / name)
    assert result.exit_code == 0, result.stderr
    return folder / name


def drawn(folder: Path, run: Path, prompt: str, *images: str) -> np.ndarray:
    shown = [part for image in images for part in ("--image", folder / f"{image}.png")]
    asked = ("--run", run, "--prompt", prompt, *shown, "--steps", 2, "--out", run / "pictures", "--device", "cpu")
    result = call("generate", *asked)
    assert result.exit_code == 0, result.stderr
    return np.asarray(Image.open(result.stdout.split()[-1])).astype(int)


def test_a_run_of_two_draws_as_the_first_does_and_from_the_second_besides(folder: Path) -> None:
    run = composed(folder, "both", "first", "second")
    one = drawn(folder, run, "a {0:star}", "red")
    assert np.array_equal(one, drawn(folder, folder / "first", "a {0:star}", "red"))
    assert not np.array_equal(one, drawn(folder, run, "a {0:star} {1}", "red", "blue"))
    recipe = read_recipe(run)
    assert [condition.name for condition in recipe.family.conditions] == ["style", "style2"]
    assert recipe.name == "emma_tiny+emma_tiny"


@pytest.mark.slow
def test_the_order_of_runs_is_that_of_slots_and_scales_say_how_much(folder: Path) -> None:
    run, turned = composed(folder, "ordered", "first", "second"), composed(folder, "turned", "second", "first")
    both = drawn(folder, run, "{0} {1} star", "red", "blue")
    assert np.array_equal(both, drawn(folder, turned, "{0} {1} star", "blue", "red"))
    assert not np.array_equal(both, drawn(folder, run, "{0} {1} star", "blue", "red"))
    alone = drawn(folder, folder / "first", "{0} star", "red")
    muted = composed(folder, "muted", "first", "second", scales=(1.0, 0.0))
    assert np.array_equal(drawn(folder, muted, "{0} {1} star", "red", "blue"), alone)
    weaker = composed(folder, "weaker", "first", scales=(0.25,))
    assert not np.array_equal(drawn(folder, weaker, "{0} star", "red"), alone)


@pytest.mark.slow
def test_it_is_exported_and_begun_with_like_any_run(folder: Path) -> None:
    run = composed(folder, "whole", "first", "second")
    result = call("export", "--run", run, "--out", folder / "export")
    assert result.exit_code == 0, result.stderr
    assert {"branches", "ella", "unet", "t5_network"} <= {path.name for path in (folder / "export").iterdir()}
    again = composed(folder, "again", "whole", scales=(0.5,))
    assert [condition.scale for condition in read_recipe(again).family.conditions] == [0.5, 0.5]
    train(folder, "further", replace(read_recipe(run), seed=1), start="whole")


@pytest.mark.parametrize(
    ("runs", "scales", "message"),
    [
        (("first", "elsewhere"), (), "is not that of the other runs; put runs together that began with the same"),
        (("first", "second"), (1.0,), "there are 2 runs and 1 scales: give one each, or none"),
        (("first", "nowhere"), (), "nowhere: there is no such folder"),
    ],
)
def test_what_can_not_be_put_together_is_told(folder: Path, runs, scales, message: str) -> None:
    given = [("--run", folder / run) for run in runs] + [("--scale", scale) for scale in scales]
    result = call("compose", *(part for pair in given for part in pair), "--out", folder / "none")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (folder / "none").exists()


def test_a_folder_that_holds_something_is_not_overwritten(folder: Path) -> None:
    result = call("compose", "--run", folder / "first", "--out", folder / "second")
    assert result.exit_code == 2 and "is there already and is not overwritten" in result.stderr
    assert json.loads((folder / "second" / "recipe.json").read_text())["recipe"]["name"] == "emma_tiny"
