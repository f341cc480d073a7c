"""What the demo's models are asked to draw: scenes of subjects that they never met, and pictures of those subjects."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stages.shapes.arranged import ArrangedSettings, make_arranged, tell
from stages.shapes.draw import Drawn, draw
from stages.shapes.grammar import Mention

COUNT = 6
_FIRST_SEED = 500_000  # those of manifests/shapes_references.yaml begin at 0
_SETTINGS = ArrangedSettings(hold_out="held_out")


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, and what an answer should look like.

    Attributes:
        pieces: Text, and pictures where words stand that only these tell more of.
        scene: The picture that the prompt was made of.
    """

    pieces: tuple[str | Path, ...]
    scene: Path


@dataclass(frozen=True, slots=True)
class Questions:
    """All of them, and the file that ``python -m training generate --prompts`` reads."""

    file: Path
    asked: tuple[Question, ...]


def write_questions(folder: Path, count: int = COUNT) -> Questions:
    """Write the questions' pictures and prompts; always the same ones.

    Subjects are PNGs with transparency, cut out along their masks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked, lines = [], []
    for number in range(count):
        arranged = make_arranged(_FIRST_SEED + number, _SETTINGS)
        caption, mentions = tell(arranged, "shape")
        drawn = draw(arranged.scene)
        subjects = tuple(_write_subjects(folder, number, drawn, mentions))
        scene = _save(folder / f"{number}.png", drawn.pixels)
        asked.append(Question(tuple(_pieces(caption, mentions, subjects)), scene))
        lines.append(
            {"prompt": _prompt(caption, mentions), "images": [path.name for path in subjects], "name": str(number)}
        )
    file = folder / "prompts.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return Questions(file, tuple(asked))


def _write_subjects(folder: Path, number: int, drawn: Drawn, mentions: Sequence[Mention]) -> Iterator[Path]:
    for slot, mention in enumerate(mentions):
        box, mask = drawn.boxes[mention.thing], drawn.masks[mention.thing]
        window = slice(int(box.y0), int(box.y1)), slice(int(box.x0), int(box.x1))
        alpha = mask[window].astype(np.uint8) * 255
        yield _save(folder / f"{number}.subject{slot}.png", np.dstack([drawn.pixels[window], alpha]))


def _save(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def _prompt(caption: str, mentions: Sequence[Mention]) -> str:
    """The caption with a slot for each subject's words: ``a {0:star} on the left``."""
    slots = iter(f"{{{slot}:{mention.phrase}}}" for slot, mention in enumerate(mentions))
    return "".join(next(slots) if is_phrase else text for is_phrase, text in _cut(caption, mentions))


def _pieces(caption: str, mentions: Sequence[Mention], subjects: Sequence[Path]) -> Iterator[str | Path]:
    pictures = iter(subjects)
    for is_phrase, text in _cut(caption, mentions):
        if is_phrase:
            yield next(pictures)
        yield text


def _cut(caption: str, mentions: Sequence[Mention]) -> Iterator[tuple[bool, str]]:
    """The caption in pieces: phrases, and the text between them."""
    done = 0
    for mention in mentions:
        yield False, caption[done : mention.span.start]
        yield True, mention.phrase
        done = mention.span.end
    yield False, caption[done:]
