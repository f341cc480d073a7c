from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.fit.toy import LORA, toy_recipe, toy_settings
from tests.training.stream.make import draw_record, with_features
from tests.training.stream.runs import write_unit
from training.config import Group, Recipe
from training.fit import preflight
from training.fit.examples import features_of, first_examples
from training.fit.fit import run_fit
from training.fit.groups import outlined
from training.fit.memory import Memory, MemoryShortageError, explained_shortage, memory_of
from training.fit.parallel import Layout, Mode
from training.fit.preflight import PreflightError, disk_shortage
from training.stream.prompts.lambda_eclipse import LambdaEclipse
from training.stream.prompts.unimo_g import UnimoG
from training.stream.recipe import StreamRecipe
from training.stream.snapshot import DatasetError
from training.stream.source import Dataset, Source

BUILT = 16 * 3 + 16 + 16 * 3 + 16 + 2 * (2 * 16 + 2 * (16 * 32) + 32 + 16) + 3 * 16 + 3 + 1 + 16
"""Parameters of the toy: encoder, inward, blocks, head, gain, rare."""
FROZEN = 16 * 3 + 16


def estimate(recipe: Recipe, size: int = 1, mode: Mode = "auto") -> Memory:
    layout = Layout(mode=mode, device=torch.device("cpu"), size=size)
    return memory_of(outlined(recipe), recipe, layout.shards)


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


@pytest.mark.parametrize(
    ("sees", "every", "who"), [(True, None, "the family learns"), (False, 5, "sample_every draws")]
)
def test_targets_left_out_are_missed_before_the_first_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sees: bool, every: int | None, who: str
) -> None:
    recipe = toy_recipe(sample_every=every)
    monkeypatch.setattr(type(recipe.family), "sees_targets", sees)
    recipe = replace(recipe, stream=replace(recipe.stream, pixels=False))
    with pytest.raises(PreflightError, match=f"pixels=False .* leaves targets out, but {who}.*: set pixels=True"):
        run_fit(toy_settings(data, tmp_path / "run", recipe))


def test_a_batch_whose_samples_are_held_against_each_other_is_not_taken_in_parts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer to be told from, each part's loss is another one, and depends on the number of ranks."""
    recipe = toy_recipe(micro_batch=2)
    monkeypatch.setattr(type(recipe.family), "contrasts_samples", True)
    with pytest.raises(PreflightError, match=r"micro_batch=2 takes a rank's share of the batch in 4 parts.*set.*=8"):
        run_fit(toy_settings(data, tmp_path / "run", recipe))
    run_fit(toy_settings(data, tmp_path / "run", toy_recipe(steps=1)))
    shortage = pytest.raises(MemoryShortageError, match=r"at once: take recompute=True, or more ranks")
    with shortage, explained_shortage(recipe):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")


def test_a_word_that_is_none_there_is_stops_a_run_that_would_take_another_for_it(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="precision is 'float16', but must be 'float32' or 'bfloat16'"):
        run_fit(toy_settings(data, tmp_path / "run", toy_recipe(precision="float16")))
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
        target, sample = (np.asarray(grid.crop((left, 4, left + 160, 164))) for left in (168, 332))
        assert len(np.unique(sample)) == 1, "the toy draws one grey"
        assert len(np.unique(target)) > 1


def test_a_disk_that_can_not_hold_the_checkpoints_is_told(tmp_path: Path) -> None:
    memory = replace(estimate(toy_recipe()), masters=2**50)
    assert disk_shortage(estimate(toy_recipe()), 3, tmp_path / "run") is None
    said = disk_shortage(memory, 3, tmp_path / "run")
    assert said is not None
    assert f"but {tmp_path} has" in said
    assert "set keep=1" in said


def test_checkpoints_that_are_there_need_no_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = estimate(toy_recipe())
    needed = (memory.masters + memory.moments + memory.averages) * 2
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed - 1))
    assert disk_shortage(memory, 1, tmp_path) is not None
    (tmp_path / "shard.safetensors").write_bytes(b"1")
    assert disk_shortage(memory, 1, tmp_path) is None


def test_subjects_without_masks_are_told_where_masks_are_wanted(tmp_path: Path) -> None:
    record = draw_record(subjects=2)
    bare = replace(record, subjects=tuple(replace(subject, mask=None) for subject in record.subjects or ()))
    for name, drawn in (("whole", record), ("bare", bare)):
        write_unit(tmp_path / name, 0, [drawn])
    wanted = StreamRecipe(builder=UnimoG(), masks=True)
    assert features_of(first_examples(Source(str(tmp_path / "whole"), tmp_path / "cache"), wanted)) == ()
    source = Source(str(tmp_path / "bare"), tmp_path / "cache")
    with pytest.raises(DatasetError, match="none of the first 2 subjects has a mask"):
        first_examples(source, wanted)
    assert features_of(first_examples(source, replace(wanted, masks=False))) == ()


def test_controls_that_no_sample_has_are_told_where_one_is_wanted(tmp_path: Path) -> None:
    record = with_features(draw_record())
    for name, drawn in (("whole", record), ("bare", replace(record, controls=()))):
        write_unit(tmp_path / name, 0, [drawn])
    wanted = StreamRecipe(builder=LambdaEclipse())
    assert features_of(first_examples(Source(str(tmp_path / "whole"), tmp_path / "cache"), wanted))
    source = Source(str(tmp_path / "bare"), tmp_path / "cache")
    with pytest.raises(DatasetError, match=r"none of the first 1 samples has a canny image.*set control=None"):
        first_examples(source, wanted)
    assert features_of(first_examples(source, replace(wanted, builder=LambdaEclipse(control=None))))


def test_a_step_that_does_not_fit_says_what_to_change() -> None:
    with pytest.raises(MemoryShortageError, match="micro_batch=4, or recompute=True"), explained_shortage(toy_recipe()):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
