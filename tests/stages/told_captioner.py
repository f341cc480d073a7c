"""A captioner that answers as told, and records to ask it about."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from manifests.record import Picture
from stages.asking import Asker
from stages.captioning import CaptioningParams
from stages.models.captioner import Answer
from stages.pixels import Pixels, write_png


class Told:
    """Answers what it was told, in turn, and notes what it was asked."""

    def __init__(self, *answers: str, end: Literal["stop", "cut", "nan", "no_room"] = "stop") -> None:
        self._answers = [Answer(text, end) for text in answers]
        self.sizes: list[tuple[int, ...]] = []
        self.prompts: list[str] = []
        self.seeds: list[int] = []

    def prompt(self, given: str | None) -> str:
        return given or "its own prompt"

    def __call__(self, images: Sequence[Pixels], prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        self.sizes += [image.shape[:2] for image in images]
        self.prompts += prompts
        self.seeds += seeds
        return self._answers[: len(images)]


def asker(told: Told, params: CaptioningParams, prompt: str = "what?", seed: int = 0) -> Asker:
    return Asker(captioner=told, params=params, prompt=prompt, seed=seed, purpose="test")


def picture(width: int = 60, height: int = 40, seed: int = 0) -> Picture:
    return write_png(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def annotated(**fields: Any) -> dict[str, Any]:
    """The fields that both stages read, with these instead of those."""
    return {"key": "r0", "image": picture(), "alt_text": "an alt text", "annotations": (), **fields}
