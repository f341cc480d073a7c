from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.training.fit.toy import LORA, toy_recipe, toy_settings
from training.config import Group
from training.fit import preflight
from training.fit.fit import run_fit
from training.fit.memory import estimate
from training.fit.preflight import PreflightError
from training.stream.source import Dataset

BUILT = 16 * 3 + 16 + 16 * 3 + 16 + 2 * (2 * 16 + 2 * (16 * 32) + 32 + 16) + 3 * 16 + 3 + 1 + 16
"""Parameters of the toy: encoder, inward, blocks, head, gain, rare."""
FROZEN = 16 * 3 + 16


def test_the_estimate_is_what_tensors_take() -> None:
    memory = estimate(toy_recipe())
    trained = 4 * (BUILT - FROZEN)
    assert (memory.frozen, memory.masters, memory.gradients) == (4 * FROZEN, trained, trained)
    assert (memory.moments, memory.averages, memory.gathered) == (2 * trained, trained, 0)
    assert memory.total == 4 * FROZEN + 5 * trained


def test_shards_and_low_rank_updates_take_less() -> None:
    whole = estimate(toy_recipe())
    assert estimate(toy_recipe(ema=None)).total == whole.total - whole.averages
    assert estimate(toy_recipe(), size=4).masters < 0.3 * whole.masters
    assert estimate(toy_recipe(), size=4, mode="ddp") == whole
    low = estimate(toy_recipe(groups=LORA))
    assert low.masters == 4 * 2 * 2 * 2 * (16 + 32)
    assert low.frozen == 4 * BUILT


def test_all_that_is_wrong_is_told_at_once_before_anything_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "available", lambda device: 1000)
    (tmp_path / "empty").mkdir()
    recipe = toy_recipe()
    recipe = replace(recipe, stream=replace(recipe.stream, features=("clip_text",)))
    settings = toy_settings(data, tmp_path / "run", recipe)
    with pytest.raises(PreflightError) as caught:
        run_fit(replace(settings, data=(*settings.data, Dataset(url=str(tmp_path / "empty")))))
    memory, features, commits = str(caught.value).splitlines()[1:]
    assert "too little memory" in memory
    assert "shard over more ranks" in memory
    assert f"{data}: " in features
    assert "lacks the features ['clip_text'] and has []" in features
    assert f"{tmp_path / 'empty'}: no committed units" in commits
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_a_recipe_that_trains_nothing_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="the recipe trains nothing"):
        run_fit(toy_settings(data, tmp_path / "run", toy_recipe(groups=(Group(names="*", mode="frozen"),))))


def test_grids_are_drawn_at_intervals(data: Path, tmp_path: Path) -> None:
    run_fit(toy_settings(data, tmp_path / "run", toy_recipe(steps=3, sample_every=2)))
    grids = sorted((tmp_path / "run" / "samples").iterdir())
    assert [grid.name for grid in grids] == ["step_00000002.png", "step_00000003.png"]
    with Image.open(grids[0]) as grid:
        assert grid.size == (3 * 164 + 4, 4 * 164 + 4)
        assert torch.tensor(list(grid.crop((332, 4, 492, 164)).getdata())).max() <= 2  # the toy draws nearly black
