import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from tests.training.painter import painter_recipe
from training.__main__ import app
from training.config import Group, Lora
from training.count import Count, count_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    def build(self, *, load: bool = True) -> nn.Module:
        assert not load and torch.empty(0).is_meta, "nothing is loaded to be counted"
        return nn.ModuleDict({"encoder": nn.Linear(10, 4), "net": nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))})


def parts():
    """Counted, never trained.

    Hardware: none.
    Time: none.
    Source: ours.
    """
    lora = Lora(rank=2, alpha=2, targets=("1",))
    groups = (
        Group(names="net.1.*", mode="lora", lr=1, lora=lora),
        Group(names="net.*", mode="full", lr=1),
        Group(names="encoder.*", mode="frozen"),
    )
    return painter_recipe(name="parts", family=Parts(), groups=groups)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.recipes.RECIPES", {"parts": parts})


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["recipes", *map(str, arguments)])


def test_parameters_are_counted_with_their_updates():
    assert count_parameters(parts()) == (Count("encoder", 44, 0), Count("net", 30 + 14 + 2 * (6 + 2), 30 + 16))


@pytest.mark.usefixtures("known")
def test_the_list_has_each_recipe_in_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    table = call().stdout

    for words in ("parts", "Parts", "Counted, never trained.", "ours."):
        assert words in table
    assert json.loads(call("--json").stdout)["parts"]["hardware"] == "none."


@pytest.mark.usefixtures("known")
def test_one_recipe_is_printed_whole():
    result = call("parts")

    assert "Counted, never trained." in result.stdout and "batch_size=4" in result.stdout
    assert "104" in result.stdout and "46" in result.stdout
    plain = json.loads(call("parts", "--json").stdout)
    assert plain["recipe"]["groups"][0]["lora"]["rank"] == 2
    assert plain["parameters"]["net"] == {"total": 60, "trained": 46}


@pytest.mark.usefixtures("known")
def test_a_recipe_is_printed_though_the_sizes_of_its_models_are_not_to_be_had(monkeypatch: pytest.MonkeyPatch):
    def absent(self, *, load: bool = True) -> nn.Module:
        raise OSError("the hub's someone/unet: not there")

    monkeypatch.setattr(Parts, "build", absent)
    result = call("parts")
    assert result.exit_code == 0 and "batch_size=4" in result.stdout
    assert "parameters are not counted: the hub's someone/unet: not there" in result.stderr
    assert json.loads(call("parts", "--json").stdout)["parameters"] is None


@pytest.mark.usefixtures("known")
def test_a_recipe_of_ones_own_is_shown_like_any_other(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text("from tests.training.commands.test_recipes import parts\n\n\ndef mine():\n    return parts()\n")

    assert json.loads(call(f"{file}:mine", "--json").stdout)["parameters"]["encoder"]["total"] == 44


@pytest.mark.usefixtures("known")
def test_a_name_that_is_none_is_met_with_those_like_it():
    result = call("part")

    assert result.exit_code == 2 and "there is no recipe 'part'" in result.stderr and "parts" in result.stderr
