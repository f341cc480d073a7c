"""Every architecture: from a checkpoint folder to text."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages.base import ModelRef
from stages.models.captioner import Answer, BatchCaptioner, Settings
from stages.models.captioners import ARCHITECTURES, load_captioner
from stages.pixels import Pixels
from tests.stages.models.tiny_captioner import QWEN_CHAT, TINY, save

from transformers import AutoModelForImageTextToText, AutoTokenizer  # isort: skip

SIZES = [(60, 90), (90, 60), (64, 64), (60, 90), (200, 40), (30, 30), (60, 90)]
PROMPTS = ["a photo of", "a dog and the cat on grass", "", "what is this", "a photo of", "a red hat", "two dog"]


def picture(height: int, width: int, seed: int) -> Pixels:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
    return np.asarray(coarse.resize((width, height)))


IMAGES = [picture(*size, seed) for seed, size in enumerate(SIZES)]
SEEDS = list(range(len(SIZES)))


@pytest.fixture(scope="session", params=TINY)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(request.param, tmp_path_factory.mktemp(request.param))


def load(folder: Path, **settings: Any) -> BatchCaptioner:
    settings = {"max_new_tokens": 12, "images_per_call": 3, **settings}
    return load_captioner(ModelRef(name=str(folder)), "cpu", Settings(**settings))


def prompts(captioner: BatchCaptioner) -> list[str]:
    """Prompts of mixed length that it takes."""
    known = captioner.architecture.only_prompts
    return [known[n % len(known)] for n in range(len(SIZES))] if known else PROMPTS


def ask(captioner: BatchCaptioner, places: Sequence[int] = range(len(SIZES))) -> list[Answer]:
    asked = prompts(captioner)
    return captioner([IMAGES[n] for n in places], [asked[n] for n in places], [SEEDS[n] for n in places])


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"temperature": 1.5, "top_p": 0.9}], ids=str)
def test_batched_equals_one_by_one_in_any_order(folder: Path, settings: dict[str, Any]) -> None:
    captioner = load(folder, **settings)
    together = ask(captioner)
    assert len({answer.text for answer in together}) > 1
    order = [4, 0, 6, 2, 1, 5, 3]
    assert ask(captioner, order) == [together[n] for n in order]
    assert [ask(captioner, [n])[0] for n in order[:4]] == [together[n] for n in order[:4]]


def test_an_answer_is_what_the_library_writes_by_hand(folder: Path) -> None:
    captioner = load(folder, num_beams=2)
    image, prompt = IMAGES[0], prompts(captioner)[1]
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = by_hand(folder.name.rstrip("0"), tokenizer, image, prompt)
    tokens = model.generate(**inputs, max_new_tokens=12, num_beams=2, do_sample=False)
    new = tokens[0, 1:] if model.config.is_encoder_decoder else tokens[0, inputs["input_ids"].shape[1] :]
    assert captioner([image], [prompt], [0])[0].text == tokenizer.decode(new, skip_special_tokens=True)


def test_p(folder: Path) -> None:
    print(folder, ask(load(folder)))
