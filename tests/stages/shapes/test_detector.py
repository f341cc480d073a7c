"""The bundled detector on scenes that it has not seen."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.data.shapes_training.detector_prompts import vocabulary, write_prompt
from stages.data.shapes_training.detector_scenes import NOUNS
from stages.data.shapes_training.evaluate import Answer, Figures, average_precision, evaluate, figures
from stages.models.torchvision_compat import ensure_torchvision
from stages.shapes.words import COLOURS, TEXTURES

ensure_torchvision()

from transformers import AutoTokenizer, GroundingDinoForObjectDetection  # noqa: E402

FOLDER = Path("stages/data/shapes_detector")
RED, BLUE = list(COLOURS).index("red"), list(COLOURS).index("blue")
STAR, HOUSE = NOUNS.index("star"), NOUNS.index("house")
STRIPED = TEXTURES.index("striped")


@pytest.fixture(scope="module")
def measured() -> Iterator[Figures]:
    model = GroundingDinoForObjectDetection.from_pretrained(FOLDER, dtype=torch.float32).eval()
    yield evaluate(model, range(150))


def test_phrases_are_grounded_in_scenes_never_seen(measured: Figures) -> None:
    assert measured.average_precision >= 0.95
    assert measured.mean_iou >= 0.85
    assert measured.found >= 0.95


def test_what_is_not_there_is_seldom_found(measured: Figures) -> None:
    assert measured.false_at_03 <= 0.1
    assert measured.false_at_05 <= 0.05


def test_the_detector_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 5_000_000


def test_the_tokenizer_reads_prompts_as_they_were_written_in_training() -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    prompt = write_prompt([(RED, STRIPED, STAR), "grass", (BLUE, 0, HOUSE)], [])
    assert tokenizer("red striped star . grass . blue house .")["input_ids"] == prompt.ids
    assert tokenizer.get_vocab() == vocabulary()


def test_a_prompt_says_which_of_its_tokens_are_true_of_which_thing() -> None:
    kinds = [(RED, STRIPED, STAR), (BLUE, 0, STAR)]
    prompt = write_prompt([(BLUE, 0, STAR), (RED, 0, STAR), (RED, 2, STAR), (-1, -1, STAR)], kinds)
    assert prompt.targets.tolist() == [
        [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0],
        [0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    ]


def answer(scores: list[float], ious: list[float] | None) -> Answer:
    return Answer(np.array(scores), None if ious is None else np.array(ious))


def test_average_precision_counts_what_is_wrong_and_what_is_twice() -> None:
    right = answer([0.9, 0.1], [0.8, 0.0])
    assert average_precision([right, right]) == 1.0
    assert average_precision([answer([0.1, 0.9], [0.8, 0.0])]) == 0.5
    assert average_precision([right, answer([0.95], None)]) == 0.5
    assert average_precision([right, answer([0.05], None)]) == 1.0
    twice = answer([0.9, 0.8], [0.8, 0.7])
    assert average_precision([twice, answer([0.5], [0.9])]) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([answer([0.9], [0.4])]) == 0.0


def test_figures_are_of_the_best_box_of_each_phrase() -> None:
    found = [answer([0.9, 0.4], [0.8, 0.9]), answer([0.2], [0.6]), answer([0.4, 0.1], None), answer([0.6], None)]
    measured = figures(found)
    assert measured.mean_iou == pytest.approx(0.7)
    assert (measured.found, measured.false_at_03, measured.false_at_05) == (0.5, 1.0, 0.5)
