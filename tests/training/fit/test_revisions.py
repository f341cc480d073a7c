"""A run stays with the commits of the hub's models that it began with, though the hub moves on; without a network."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.families.eclipse import CLIP, write_features
from training.config import Recipe
from training.families.lambda_eclipse import LambdaEclipseConfig
from training.fit.fit import FitSettings, run_fit
from training.fit.runs import open_run, read_recipe, read_revisions
from training.recipe_lambda_eclipse import lambda_eclipse_tiny
from training.stream.options import StreamOptions
from training.stream.source import Dataset
from training.weights import Weights, cached_commit, cached_revisions, pinned

NAME, OLD, NEW = "inlay-tests/clip", "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a model at its old commit, with a newer one beside it, and no network."""
    folder = tmp_path / "hub" / "models--inlay-tests--clip"
    for commit in (OLD, NEW):
        shutil.copytree(CLIP.name, folder / "snapshots" / commit)
    changed = folder / "snapshots" / NEW / "model.safetensors"
    save_file({name: value + 0.01 for name, value in load_file(changed).items()}, changed, {"format": "pt"})
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(OLD)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("INLAY_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    write_features(folder)
    return folder


def prior(revision: str | None = None) -> Recipe:
    tiny = lambda_eclipse_tiny()
    assert isinstance(tiny.family, LambdaEclipseConfig)
    family = replace(tiny.family, learns="prior", clip=Weights(name=NAME, revision=revision))
    return replace(tiny, family=family, groups=tiny.groups[:2], batch_size=4, micro_batch=4, steps=1)


def train(features: Path, out: Path, recipe: Recipe, **settings: object) -> None:
    options = StreamOptions(cache=out.parent / "cache", threads=1)
    run_fit(FitSettings(recipe=recipe, data=(Dataset(url=str(features)),), out=out, options=options, **settings))


def nothing(run: Path) -> torch.Tensor:
    _, family = open_run(run)
    return family.get_buffer("no_picture")


def test_a_run_stays_with_the_commit_it_began_with(hub: Path, features: Path, tmp_path: Path) -> None:
    train(features, tmp_path / "run", prior())
    assert read_revisions(tmp_path / "run") == {NAME: OLD}
    old = nothing(tmp_path / "run")
    (hub / "refs" / "main").write_text(NEW)
    train(features, tmp_path / "run", replace(prior(), steps=2), resume="yes")
    assert read_revisions(tmp_path / "run") == {NAME: OLD} and torch.equal(nothing(tmp_path / "run"), old)
    train(features, tmp_path / "after", prior(), start_from=tmp_path / "run")
    assert read_revisions(tmp_path / "after") == {NAME: OLD}
    train(features, tmp_path / "other", prior())
    assert read_revisions(tmp_path / "other") == {NAME: NEW} and not torch.equal(nothing(tmp_path / "other"), old)
    assert read_recipe(tmp_path / "other") == replace(prior(), steps=1), "the recipe itself is as it was given"


def test_a_commit_that_is_gone_is_named_with_the_command_that_brings_it(
    hub: Path, features: Path, tmp_path: Path
) -> None:
    train(features, tmp_path / "run", prior())
    (hub / "refs" / "main").write_text(NEW)
    shutil.rmtree(hub / "snapshots" / OLD)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(OSError, match=f"{NAME} at revision {OLD}.*hf download {NAME} --revision {OLD}"):
        train(features, tmp_path / "run", replace(prior(), steps=2), resume="yes")


def test_a_run_of_before_commits_were_kept_goes_on_with_what_is_here(hub: Path, features: Path, tmp_path: Path) -> None:
    train(features, tmp_path / "run", prior())
    file = tmp_path / "run" / "recipe.json"
    held = json.loads(file.read_text())
    held.pop("revisions")
    file.write_text(json.dumps(held))
    assert read_revisions(tmp_path / "run") == {}
    train(features, tmp_path / "run", replace(prior(), steps=2), resume="yes")
    assert read_revisions(tmp_path / "run") == {NAME: OLD}


def test_revisions_that_a_recipe_names_are_kept_by_their_name(hub: Path) -> None:
    (hub / "refs" / "v1").write_text(NEW)
    tagged, exact, folder = Weights(name=NAME, revision="v1"), Weights(name=NAME, revision=OLD), CLIP
    commits = cached_revisions((tagged, exact, folder, Weights(name=NAME), Weights(name="inlay-tests/none")))
    assert commits == {f"{NAME}@v1": NEW, f"{NAME}@{OLD}": OLD, NAME: OLD}
    assert pinned((tagged, folder, 3), commits) == (Weights(name=NAME, revision=NEW), folder, 3)
    assert cached_commit(Weights(name="inlay-tests/none")) is None
