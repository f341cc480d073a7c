"""``draw``: prompts to pictures, with a tiny SDXL and with one that answers as told."""

import hashlib
import shutil
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from manifests.record import Synthesis
from stages.base import Context, Drop, Fail
from stages.draw import Draw, DrawIn, DrawOut, DrawParams
from stages.pixels import Pixels
from stages.web_image import open_image
from tests.stages.models import tiny_sdxl

# diffusers 0.42's scheduler hands numpy a tensor, which torch 2.13 has not caught up with
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SMALL = {"width": 64, "height": 64, "steps": 2, "images_per_call": 2}
PROMPTS = ["a cat, oil painting", "一只鸟", "a dog", "two houses by the sea at night, pixel art", "a cat, oil painting"]


def record(prompt: str, seed: int = 0) -> DrawIn:
    return DrawIn(synthesis=Synthesis(prompt=prompt, content=prompt, style="", seed=seed))


class Told:
    """Draws every prompt as a square of one colour, and ``nothing`` as nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def fits(self, prompt: str) -> bool:
        return len(prompt) < 20

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Pixels | None]:
        self.asked += zip(prompts, seeds, strict=True)
        return [None if text == "nothing" else np.full((8, 8, 3), seed, np.uint8) for text, seed in self.asked]


def pixels(out: object) -> Pixels:
    assert isinstance(out, DrawOut) and out.sha256 == hashlib.sha256(out.original).hexdigest()
    return open_image(out.original, 10**6)


def test_records_that_cannot_be_drawn_go_and_their_neighbours_stay() -> None:
    artist = Told()
    batch = [record(" "), record("x" * 10_000), record("a", 7), record("nothing", 8), record("b", 9)]
    empty, long, first, failed, second = Draw(DrawParams(), artist).process(batch)
    assert empty == Drop("empty_prompt") and long == Drop("prompt_too_long", "10000 characters")
    assert failed == Fail("picture_not_a_number")
    assert (pixels(first) == 7).all() and (pixels(second) == 9).all()
    assert artist.asked == [("a", 7), ("nothing", 8), ("b", 9)]
    assert Draw(DrawParams(), artist).process([]) == []


@pytest.mark.parametrize(("file_format", "name"), [("png", "PNG"), ("jpg", "JPEG")])
def test_pictures_are_files_that_decode_opens(file_format: str, name: str) -> None:
    (out,) = Draw(DrawParams(format=file_format), Told()).process([record("a", 200)])  # type: ignore[arg-type]
    assert isinstance(out, DrawOut)
    with Image.open(BytesIO(out.original)) as image:
        assert image.format == name
    assert (abs(pixels(out).astype(int) - 200) <= 1).all()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl.folder(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def stage(model: Path) -> Draw:
    return Draw.load(DrawParams(model=str(model), **SMALL), Context())  # type: ignore[arg-type]


def test_a_picture_is_the_same_however_records_are_batched(stage: Draw) -> None:
    batch = [record(prompt, seed) for seed, prompt in enumerate(PROMPTS)]
    together = stage.process(batch)
    assert stage.process(batch) == together
    assert [stage.process([one])[0] for one in batch] == together
    assert stage.process(batch[::-1]) == together[::-1]


def test_seed_and_prompt_decide_the_picture(stage: Draw) -> None:
    first, other_seed, other_prompt = map(pixels, stage.process([record("a", 1), record("a", 2), record("b", 1)]))
    assert first.shape == (64, 64, 3) and first.std() > 5
    assert np.abs(first.astype(int) - other_seed).mean() > 5
    assert (first != other_prompt).any()


def test_a_picture_is_diffusers_own(stage: Draw, model: Path) -> None:
    pipe = tiny_sdxl.StableDiffusionXLPipeline.from_pretrained(model, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    theirs = pipe(["a", "b"], generator=generators, width=64, height=64, num_inference_steps=2, output_type="np").images
    ours = [pixels(out) for out in stage.process([record("a", 3), record("b", 4)])]
    assert np.abs(np.stack(ours) / 255 - theirs).max() <= 1 / 255  # a rounding


def test_half_precision_draws_nearly_the_same(stage: Draw, model: Path) -> None:
    half = Draw.load(DrawParams(model=str(model), precision="bfloat16", **SMALL), Context())  # type: ignore[arg-type]
    batch = [record("a", 3), record("b", 4)]
    for ours, whole in zip(half.process(batch), stage.process(batch), strict=True):
        assert 0 < np.abs(pixels(ours).astype(int) - pixels(whole)).mean() < 8


def test_prompts_are_not_cut(stage: Draw) -> None:
    fits, long = stage.process([record("a " * 75), record("a " * 76)])
    assert isinstance(fits, DrawOut) and isinstance(long, Drop) and long.reason == "prompt_too_long"


@pytest.mark.parametrize("sampler", ["euler", "ddim"])
def test_samplers_guidance_and_negative_prompts_change_the_picture(stage: Draw, model: Path, sampler: str) -> None:
    (own,) = stage.process([record("a")])
    params = [{"sampler": sampler}, {"negative_prompt": "ugly"}, {"guidance_scale": 1.0}]
    found = [Draw.load(DrawParams(model=str(model), **SMALL, **more), Context()) for more in params]  # type: ignore[arg-type]
    (same, negative, plain) = (one.process([record("a")])[0] for one in found)
    assert (same == own) == (sampler == "euler")
    assert own not in (negative, plain) and isinstance(plain, DrawOut)


def test_weights_that_are_no_numbers_fail_the_record(model: Path) -> None:
    stage = Draw.load(DrawParams(model=str(model), **SMALL), Context())  # type: ignore[arg-type]
    stage._artist.pipe.unet.conv_out.weight.data.fill_(float("nan"))  # type: ignore[attr-defined]
    assert stage.process([record("a")]) == [Fail("picture_not_a_number")]


def test_a_damaged_model_or_another_one_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model: set model"):
        Draw.models(DrawParams())
    for name, content in (("unet/diffusion_pytorch_model.safetensors", b"junk"), ("model_index.json", b"{}")):
        broken = tmp_path / Path(name).name
        shutil.copytree(model, broken)
        (broken / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot load .* as SDXL"):
            Draw.load(DrawParams(model=str(broken)), Context())
    pickled = tmp_path / "pickled"
    shutil.copytree(model, pickled)
    (pickled / "vae/diffusion_pytorch_model.safetensors").rename(pickled / "vae/diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"cannot load .* as SDXL"):
        Draw.load(DrawParams(model=str(pickled)), Context())


def test_of_a_hub_repository_only_what_draws_is_wanted() -> None:
    (ref,) = Draw.wants(DrawParams(model="owner/sdxl", revision="1", variant="fp16"))
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in ref.files and "model_index.json" in ref.files
    assert not any(name.endswith("model.safetensors") for name in ref.files)


@pytest.mark.parametrize("params", [{"width": 100}, {"steps": 0}, {"format": "webp"}, {"guidance_scale": 0.5}])
def test_parameters_out_of_range_are_refused(params: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DrawParams(**params)  # type: ignore[arg-type]
