"""EMMA learns from what the engine writes: shards of its manifests' twins, and nothing but their features."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import execute, prepare
from tests.recipes import tiny_models
from tests.recipes.test_recipes import in_folder
from training.config import Recipe
from training.encoders import t5
from training.encoders.t5 import T5
from training.families import emma
from training.families.emma import EmmaConfig
from training.fit.fit import FitSettings, run_fit
from training.fit.log import read_log
from training.recipe_emma import emma_tiny
from training.recipes import RECIPES
from training.stream.buckets import Buckets
from training.stream.options import StreamOptions
from training.stream.source import Dataset
from training.weights import Weights

MANIFESTS = {
    "emma_object": "emma_objects",
    "emma_style": "emma_objects",
    "emma_face": "emma_portraits",
    "emma_portrait": "emma_portraits",
    "emma_region": "emma_regions",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny")
    tiny_models.build(root)
    return root


@pytest.fixture(scope="module")
def shards(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The twins' shards, by manifest."""
    made = {name: tmp_path_factory.mktemp(name) for name in sorted(set(MANIFESTS.values()))}
    with open(os.devnull, "w") as nowhere:
        for name, out in made.items():
            execute(prepare(in_folder(name, tiny)), out, run_local, LineProgress(nowhere))
    return made


def small(name: str, tiny: Path) -> Recipe:
    """A recipe with its own stream, on models as small as the twins'."""
    recipe, sizes = RECIPES[name](), emma_tiny().family
    assert isinstance(recipe.family, EmmaConfig) and isinstance(sizes, EmmaConfig)
    (condition,) = recipe.family.conditions
    if condition.network == "clip":
        clip = Weights(name=str(tiny / "clip"))
        local = {"local_dim": 32, "local_tokens": 17} if condition.local_dim else {}
        condition = replace(condition, vector_dim=24, encoder=clip, **local)
    family = replace(
        sizes,
        text=T5(source=Weights(name=str(tiny / "t5"))),
        ella=replace(sizes.ella, text_dim=16),
        conditions=(replace(condition, strength=0.1),),
    )
    stream = replace(recipe.stream, buckets=Buckets(ratios=(1.0,), base=32, multiple=32), feature_model=None)
    return replace(
        recipe, family=family, stream=stream, batch_size=2, micro_batch=2, steps=2, log_every=1, precision="float32"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", MANIFESTS)
def test_a_recipe_reads_what_its_manifest_writes(
    name: str, tiny: Path, shards: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INLAY_CACHE", str(tmp_path / "cache"))
    recipe = small(name, tiny)
    assert isinstance(recipe.family, EmmaConfig)
    t5.empty_states(recipe.family.text)
    monkeypatch.setattr(t5, "_pretrained", None)  # all is in the shards, but for the empty text
    monkeypatch.setattr(emma, "load_clip_pictures", None)
    source = (Dataset(url=str(shards[MANIFESTS[name]])),)
    options = StreamOptions(cache=tmp_path / "cache", threads=1)
    run_fit(FitSettings(recipe=recipe, data=source, out=tmp_path / "run", options=options))
    lines = read_log(tmp_path / "run")
    assert [line["step"] for line in lines] == [1, 2]
    assert all(line["grad_norm"] > 0 for line in lines)
