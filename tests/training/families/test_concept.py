"""λ-ECLIPSE in two runs: a prior from features, and a decoder tuned on photos of one concept beside that prior."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from tests.training.families.eclipse import write_features
from tests.training.fit.processes import lines, tensors_of
from tests.training.stream.make import smooth
from training.__main__ import app
from training.config import Group, Recipe
from training.families.lambda_eclipse import LambdaEclipse, LambdaEclipseConfig
from training.fit.runs import open_run
from training.generate.drawing import prepare_drawings
from training.generate.requests import Request
from training.noise import Noise
from training.recipe_lambda_eclipse import lambda_eclipse_concept, lambda_eclipse_tiny
from training.weights import Weights

PROMPT = "a {0:dog} in a hat"


def _learning(learns: str) -> Recipe:
    recipe = lambda_eclipse_tiny()
    assert isinstance(recipe.family, LambdaEclipseConfig)
    return replace(recipe, family=replace(recipe.family, learns=learns), batch_size=4, micro_batch=4, save_every=10)


def prior() -> Recipe:
    """The prior alone, as ``lambda_eclipse`` has it."""
    return replace(_learning("prior"), name="prior", steps=3, groups=lambda_eclipse_tiny().groups[:2])


def concept() -> Recipe:
    """What ``lambda_eclipse_concept`` changes, at the tiny one's sizes."""
    tiny, paper = _learning("decoder"), lambda_eclipse_concept()
    return replace(
        paper,
        name="concept",
        family=tiny.family,
        stream=replace(paper.stream, buckets=tiny.stream.buckets),
        micro_batch=2,
        steps=3,
        groups=(Group(names="unet.*", mode="full", lr=1e-3),),
        prompts=tiny.stream.builder,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards with CLIP's features, photos without anything, and a run of each kind."""
    folder = tmp_path_factory.mktemp("eclipse")
    write_features(folder / "features")
    _write_photos(folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INLAY_CACHE", str(folder / "cache"))
        for name, data, options in (
            ("prior", "features", ()),
            ("concept", "photos", ("--start-from", folder / "prior")),
        ):
            fitted = fit(folder, name, data, *options)
            assert fitted.exit_code == 0 and "activations: about" in fitted.output, fitted.output
    return folder


def fit(folder: Path, name: str, data: str, *options: object) -> Result:
    given = ["--recipe", f"{__file__}:{name}", "--data", folder / data, "--out", folder / name, *options]
    return CliRunner().invoke(app, ["fit", *map(str, given)])


def _write_photos(folder: Path) -> None:
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number in range(4):
            data = io.BytesIO()
            Image.fromarray(smooth(np.random.default_rng(number), 64, 48)).save(data, "PNG")
            info = tarfile.TarInfo(f"photo{number}.png")
            info.size = len(data.getvalue())
            tar.addfile(info, io.BytesIO(data.getvalue()))


def test_the_decoder_learns_the_concept_and_the_prior_stays_as_it_was(folder: Path) -> None:
    taught, tuned = tensors_of(folder / "prior"), tensors_of(folder / "concept")
    kept = {name: value for name, value in tuned.items() if name.startswith("weights.prior.")}
    assert kept.keys() == {name for name in taught if name.startswith("weights.prior.")} != set()
    assert all(torch.equal(value, taught[name]) for name, value in kept.items())
    assert not [name for name in tuned if name.startswith("adamw.") and ".prior." in name]
    assert {term for line in lines(folder / "concept") for term in line} & {"eps", "projection"} == {"eps"}
    fresh = concept().family
    torch.manual_seed(concept().seed)
    before = dict(fresh.build().named_parameters())
    moved = [n for n, v in tuned.items() if n.startswith("weights.unet.") and not torch.equal(v, before[n[8:]])]
    assert len(moved) > 10


def test_both_runs_draw_the_same_prompt_from_the_same_vector_each_by_its_decoder(folder: Path) -> None:
    Image.new("RGB", (30, 30), (200, 100, 50)).save(folder / "dog.png")
    found = {}
    for run in ("prior", "concept"):
        given = ["--run", folder / run, "--prompt", PROMPT, "--image", folder / "dog.png", "--steps", 2]
        result = CliRunner().invoke(app, ["generate", *map(str, given), "--out", str(folder / "out" / run)])
        assert result.exit_code == 0, result.output
        path = Path(result.stdout.strip())
        assert json.loads(path.with_suffix(".json").read_text())["recipe"] == run
        found[run] = np.asarray(Image.open(path))
    assert found["prior"].shape == found["concept"].shape == (32, 32, 3)
    assert (found["prior"] != found["concept"]).any()
    vectors = [_vector(folder, run) for run in ("prior", "concept")]
    assert torch.equal(*vectors)


def test_drawing_by_a_prior_that_never_learnt_is_told(folder: Path) -> None:
    given = ["--prompt", "a dog", "--steps", "2", "--out", str(folder / "out" / "alone")]
    taught = CliRunner().invoke(app, ["generate", "--run", str(folder / "concept"), *given])
    assert taught.exit_code == 0 and "never learnt" not in taught.stderr
    assert fit(folder, "concept", "photos", "--out", folder / "alone").exit_code == 0
    alone = CliRunner().invoke(app, ["generate", "--run", str(folder / "alone"), *given])
    assert alone.exit_code == 0
    assert "this run's prior never learnt" in alone.stderr and "--start-from" in alone.stderr


def _vector(folder: Path, run: str) -> torch.Tensor:
    recipe, family = open_run(folder / run)
    assert isinstance(family, LambdaEclipse)
    request = Request(prompt=PROMPT, images=(folder / "dog.png",))
    (drawing,) = prepare_drawings([request], family, recipe.builder, recipe.sample)
    return family.vectors(drawing.conditions(1, "cpu"), Noise(0, 0, range(1)))


def test_a_prior_that_was_exported_is_one_that_recipes_name(folder: Path) -> None:
    given = ["--run", str(folder / "prior"), "--out", str(folder / "exported")]
    assert CliRunner().invoke(app, ["export", *given]).exit_code == 0
    family = concept().family
    assert isinstance(family, LambdaEclipseConfig)
    built = replace(family, prior_weights=Weights(name=str(folder / "exported"), subfolder="prior")).build()
    taught = tensors_of(folder / "prior")
    held = {f"weights.{name}": value for name, value in built.named_parameters() if f"weights.{name}" in taught}
    assert len(held) > 10 and all(torch.equal(value, taught[name]) for name, value in held.items())
    with pytest.raises(OSError, match="name the folder of the prior itself, which is one of those"):
        replace(family, prior_weights=Weights(name=str(folder / "exported"))).build()


def test_a_prior_does_not_begin_with_a_run_that_tuned_a_decoder(folder: Path) -> None:
    begun = fit(folder, "prior", "features", "--start-from", folder / "concept", "--out", folder / "back")
    assert begun.exit_code == 2
    assert "which the recipe's family has not" in begun.output.replace("\n", " ")
