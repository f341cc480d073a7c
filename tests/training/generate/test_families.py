"""The families draw what is asked for here, and are exported as others load them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from training.config import Recipe
from training.export.parts import find_parts
from training.families.base import SampleConfig
from training.fit.parallel import as_family
from training.fit.runs import build
from training.generate.drawing import prepare_drawings
from training.generate.gallery import Gallery, Origin
from training.generate.requests import Request
from training.generate.walk import walk
from training.recipes import RECIPES

ORIGIN = Origin(recipe="tiny", run="run", step=0, is_averaged=True)


@pytest.fixture(scope="module", params=["unimo_g_tiny", "lambda_eclipse_tiny", "mumu_tiny", "emma_tiny"])
def tiny(request: pytest.FixtureRequest) -> tuple[Recipe, nn.Module]:
    recipe = RECIPES[request.param]()
    return recipe, build(recipe)[0].eval()


@pytest.fixture
def shades(tmp_path: Path) -> list[Path]:
    """Two plain pictures."""
    paths = [tmp_path / "red.png", tmp_path / "blue.png"]
    for path, colour in zip(paths, ((230, 20, 20), (20, 20, 230)), strict=True):
        Image.new("RGB", (40, 30), colour).save(path)
    return paths


def drawn(tiny: tuple[Recipe, nn.Module], out: Path, prompt: str, *images: Path, **config: object) -> np.ndarray:
    recipe, module = tiny
    family = as_family(module)
    settings = replace(recipe.sample, steps=2, **config)
    (drawing,) = prepare_drawings([Request(prompt=prompt, images=images)], family, recipe.stream.builder, settings)
    (path,) = Gallery(family=family, origin=ORIGIN, folder=out).draw(drawing)
    return np.asarray(Image.open(path))


def test_text_and_images_decide_the_picture(tiny, shades, tmp_path: Path):
    red, blue = shades
    prompts = {
        "asked": ("a {0:star} on the left", red),
        "another place": ("a {0:star} at the top", red),
        "another image": ("a {0:star} on the left", blue),
        "no image": ("a star on the left",),
    }
    found = {name: drawn(tiny, tmp_path / name, *prompt) for name, prompt in prompts.items()}

    assert len({picture.tobytes() for picture in found.values()}) == len(prompts)
    assert np.array_equal(found["asked"], drawn(tiny, tmp_path / "again", *prompts["asked"]))


def test_a_prompt_that_is_too_long_is_refused_or_cut_as_in_training(tiny, tmp_path: Path):
    long = "a star on the left " * 120
    with pytest.raises(ValueError, match="shorten it"):
        drawn(tiny, tmp_path / "refused", long)
    assert np.array_equal(
        drawn(tiny, tmp_path / "cut", long, cuts=True), drawn(tiny, tmp_path / "again", long * 2, cuts=True)
    )


def test_edges_decide_the_picture_where_a_family_learnt_them(tiny, shades, tmp_path: Path):
    recipe, module = tiny
    family, builder, settings = as_family(module), recipe.stream.builder, replace(recipe.sample, steps=2)
    asked = Request(prompt="a {0:star}", images=(shades[0],), where="here:1")
    along = replace(asked, control=shades[1])
    if family.insertion != "feature":
        with pytest.raises(ValueError, match="here:1: this run learnt no control image: leave --control out"):
            prepare_drawings([along], family, builder, settings)
        return
    builder = replace(builder, control="canny")
    drawings = prepare_drawings([asked, along], family, builder, settings)
    paths = [path for each in drawings for path in Gallery(family=family, origin=ORIGIN, folder=tmp_path).draw(each)]

    assert paths[0].read_bytes() != paths[1].read_bytes()
    assert [reference.role for reference in drawings[1].prompt.references] == ["control", "subject"]
    control, subject = drawings[1].conditions(1, "cpu").references[0]
    assert control is not None and subject is not None
    side = builder.side
    assert control.shape == (30, 40, 3), "as embed has it, CLIP cuts its square from it: no margin that no edges have"
    assert subject.shape == (side, side, 3)
    assert json.loads(paths[1].with_suffix(".json").read_text())["control"]["file"] == str(shades[1])


@pytest.mark.parametrize("config", [{"steps": 5000}, {"guidance_scale": 1000.0}, {"size": (3, 3)}])
def test_what_is_out_of_range_is_said(tiny, tmp_path: Path, config):
    recipe, module = tiny
    (drawing,) = prepare_drawings(
        [Request(prompt="a star", where="here:1")],
        as_family(module),
        recipe.stream.builder,
        replace(SampleConfig(steps=2), **config),
    )
    with pytest.raises(ValueError, match=r"^here:1: .*(must be|multiples of)"):
        list(Gallery(family=as_family(module), origin=ORIGIN, folder=tmp_path).draw(drawing))


def test_a_walk_leads_from_corner_to_corner(tiny, shades, tmp_path: Path):
    recipe, module = tiny
    family = as_family(module)
    requests = [Request(prompt=f"a {{0:{noun}}}", images=(shade,)) for noun in ("star", "heart") for shade in shades]
    corners = prepare_drawings(requests, family, recipe.stream.builder, SampleConfig(steps=2))
    if family.insertion != "feature":
        with pytest.raises(ValueError, match="draws from no single vector"):
            walk(family, corners, 2, "bilinear", "cpu")
        return
    side = recipe.family.decoder.size[0]
    sheet = walk(family, corners, 2, "slerp", "cpu")
    (alone,) = Gallery(family=family, origin=ORIGIN, folder=tmp_path).draw(corners[2])

    assert sheet.shape == (2 * side, 2 * side, 3)
    assert np.abs(sheet[side:, :side].astype(int) - np.asarray(Image.open(alone))).max() <= 1
    with pytest.raises(ValueError, match="four prompts, got 3"):
        walk(family, corners[:3], 2, "slerp", "cpu")


def test_its_parts_are_what_it_is_made_of(tiny):
    parts = {part.name: part.kind for part in find_parts(tiny[1])}

    assert parts["unet"] == "model"
    assert set(parts.values()) <= {"model", "module"}
