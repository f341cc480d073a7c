"""How well a detector grounds phrases in held-out scenes of the shapes world.

Usage: ``python -m stages.data.shapes_training.evaluate FOLDER [COUNT]``
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stages.data.shapes_training.detector_batches import FRAME, Batch, collate
from stages.data.shapes_training.detector_losses import corners
from stages.data.shapes_training.detector_prompts import Kind, Prompt, write_prompt
from stages.data.shapes_training.detector_scenes import MAX_THINGS, NOUNS, Example, make_example
from stages.shapes.scene import SceneSettings
from stages.shapes.words import COLOURS, TEXTURES

ABSENT = 3
"""Phrases of a prompt that fit nothing."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured.

    Attributes:
        average_precision: Area under precision over recall of all boxes of all phrases, at IoU 0.5.
        mean_iou: Of the best box of each phrase that fits something; a wrong box counts with its IoU.
        found: Share of the phrases that fit something whose best box has a score of 0.3 and an IoU of 0.5.
        false_at_03: Share of the phrases that fit nothing with a box of a score of 0.3.
        false_at_05: Likewise 0.5.
    """

    average_precision: float
    mean_iou: float
    found: float
    false_at_03: float
    false_at_05: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What the detector said of a phrase: the score of every box, and its IoU with the thing meant if there is one."""

    scores: npt.NDArray[np.float32]
    ious: npt.NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Question:
    """A scene with a prompt; ``meant`` is, for each phrase, the number of the thing that it fits or ``None``."""

    example: Example
    prompt: Prompt
    meant: tuple[int | None, ...]


def question(seed: int, settings: SceneSettings) -> Question:
    """The scene of a seed, with the phrases of all its things and ``ABSENT`` others, in random order."""
    example, rng = make_example(seed, settings), np.random.default_rng(seed)
    kinds: list[Kind] = [(int(c), int(t), int(n)) for c, t, n in example.kinds]
    phrases = [*kinds, *_absent(kinds, rng)]
    order = rng.permutation(len(phrases))
    meant = tuple(int(i) if i < len(kinds) else None for i in order)
    return Question(example, write_prompt([phrases[i] for i in order], kinds), meant)


def _absent(kinds: Sequence[Kind], rng: np.random.Generator) -> Iterator[Kind]:
    """Phrases with a colour and a noun that no thing has together; half of them share one with a thing."""
    taken = {(colour, noun) for colour, _, noun in kinds}
    while len(taken) < len(kinds) + ABSENT:
        colour, texture, noun = (int(rng.integers(len(table))) for table in (COLOURS, TEXTURES, NOUNS))
        near = kinds[int(rng.integers(len(kinds)))]
        colour, noun = [(colour, noun), (colour, noun), (near[0], noun), (colour, near[2])][int(rng.integers(4))]
        if (colour, noun) not in taken:
            taken.add((colour, noun))
            yield colour, texture, noun


def _batch(questions: Sequence[Question]) -> Batch:
    sizes = np.array([q.example.pixels.shape[:2] for q in questions], dtype=np.int16)
    height, width = -(-sizes.max(axis=0).astype(int) // FRAME) * FRAME
    pixels = np.zeros((len(questions), height, width, 3), dtype=np.uint8)
    boxes = np.zeros((len(questions), MAX_THINGS, 4), dtype=np.float32)
    for i, (mine, (rows, columns)) in enumerate(zip(questions, sizes, strict=True)):
        pixels[i, :rows, :columns] = mine.example.pixels
        boxes[i, : len(mine.example.boxes)] = mine.example.boxes
    return collate(pixels, sizes, boxes, [mine.prompt for mine in questions])


def _iou(boxes: Tensor, box: Tensor) -> Tensor:
    (a0, a1), (b0, b1) = corners(boxes), corners(box)
    shared = (torch.minimum(a1, b1) - torch.maximum(a0, b0)).clamp(min=0).prod(-1)
    return shared / (boxes[..., 2:].prod(-1) + box[2:].prod() - shared + 1e-9)


@torch.inference_mode()
def answers(model: Any, questions: Sequence[Question], size: int = 32) -> Iterator[Answer]:
    """Ask the detector, in calls of so many pictures of about one shape."""
    by_shape = sorted(questions, key=lambda q: q.example.pixels.shape[1] > 128)
    for start in range(0, len(by_shape), size):
        part = by_shape[start : start + size]
        batch = _batch(part)
        output = model(**batch.inputs())
        for mine, logits, boxes, truth in zip(part, output.logits, output.pred_boxes, batch.truth.boxes, strict=True):
            yield from _judge(mine, logits.sigmoid(), boxes, truth)


def _judge(asked: Question, probabilities: Tensor, boxes: Tensor, truth: Tensor) -> Iterator[Answer]:
    stops = [place for place, token in enumerate(asked.prompt.ids) if token == 1012]
    for start, stop, thing in zip([0, *stops], stops, asked.meant, strict=False):
        scores = probabilities[:, start + 1 : stop].amax(1).numpy()
        yield Answer(scores, None if thing is None else _iou(boxes, truth[thing]).numpy())


def average_precision(found: Sequence[Answer], threshold: float = 0.5) -> float:
    """Area under the precision envelope; of the boxes that fit a phrase's thing, only the best-scored one is right."""
    scored: list[tuple[float, bool]] = []
    for answer in found:
        fits = np.zeros(len(answer.scores), bool) if answer.ious is None else answer.ious >= threshold
        first = int(np.argmax(np.where(fits, answer.scores, -1))) if fits.any() else -1
        scored += [(float(score), i == first) for i, score in enumerate(answer.scores)]
    right = np.cumsum([is_right for _, is_right in sorted(scored, key=lambda pair: -pair[0])])
    precision = right / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    recall = right / sum(answer.ious is not None for answer in found)
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def figures(found: Sequence[Answer]) -> Figures:
    """The figures of all answers."""
    best = [(answer.scores.max(), answer.ious[answer.scores.argmax()]) for answer in found if answer.ious is not None]
    none = np.array([answer.scores.max() for answer in found if answer.ious is None])
    return Figures(
        average_precision=average_precision(found),
        mean_iou=float(np.mean([iou for _, iou in best])),
        found=float(np.mean([score >= 0.3 and iou >= 0.5 for score, iou in best])),
        false_at_03=float(np.mean(none >= 0.3)),
        false_at_05=float(np.mean(none >= 0.5)),
    )


def evaluate(model: Any, seeds: Sequence[int], settings: SceneSettings | None = None) -> Figures:
    """Measure a detector on the scenes of these seeds; those below 100,000 are no training scenes."""
    questions = [question(seed, settings or SceneSettings()) for seed in seeds]
    return figures(list(answers(model, questions)))


def main(folder: str, count: str = "1000") -> None:
    """Print the figures of a detector in a folder."""
    from stages.models.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    from transformers import GroundingDinoForObjectDetection

    model: Any = GroundingDinoForObjectDetection.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    for name, value in asdict(evaluate(model, range(int(count)))).items():
        print(f"{name:18} {value:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
