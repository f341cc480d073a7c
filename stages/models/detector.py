"""Phrases to boxes with a network: pictures of any size and prompts of any length, in batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from manifests.record import Picture
from stages.models.ahead import ahead, moved, ready
from stages.models.frame import Frame
from stages.models.memory import CallSize
from stages.models.prompts import Prompt, PromptWriter
from stages.nms import Floats
from stages.pixels import read_picture

TOKENS = 64
"""Prompts are filled up to multiples of this, so that prompts of few lengths come in."""


@dataclass(frozen=True, slots=True)
class Detections:
    """What was found on a picture: all boxes the network knows, good or not.

    Attributes:
        boxes: (box, ``x0 y0 x1 y1``) in pixels of the picture; may be no numbers, or outside.
        scores: (box, phrase), how much each phrase is what is in the box, in [0, 1], or no number; 0 where it was not
            asked for together with it.
        unread: Phrases that could not be looked for: number and reason.
    """

    boxes: Floats
    scores: Floats
    unread: Mapping[int, str]


class Detector(Protocol):
    """Finds what phrases say."""

    def __call__(self, images: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        """For each picture, what was found for its phrases. Pictures do not influence each other."""
        ...


class Network(Protocol):
    """A text-conditioned detection network."""

    def detect(self, pixels: Tensor, is_picture: Tensor, ids: Tensor, is_text: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and what they hold.

        Args:
            pixels: (picture, channel, y, x), normalised.
            is_picture: (picture, y, x), false where it is padded.
            ids: (picture, token), its prompt.
            is_text: (picture, token), false where it is filled up.

        Returns:
            Boxes, (picture, box, centre x, centre y, width, height), as shares of the picture without its padding; and
            logits, (picture, box, token or more).
        """
        ...


class _Ask(NamedTuple):
    """A prompt for a picture, by its number; and the shapes of what the network gets of them."""

    padded: tuple[int, int]
    tokens: int
    number: int
    prompt: Prompt

    @property
    def shape(self) -> tuple[tuple[int, int], int]:
        return self.padded, self.tokens


class _Answer(NamedTuple):
    """Boxes as shares of the picture, (box, 4), and probabilities, (box, token)."""

    boxes: Floats
    probabilities: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDetector:
    """A :class:`Detector` around a network.

    Each picture is padded, and each prompt filled up, to a size that depends on nothing else; what has one size makes
    up calls, and the last of a size is filled up with what is thrown away. So a result hangs on neither the number nor
    the sizes of the pictures and prompts beside it, up to the last bit of a sum that hangs on the place in the call.

    Attributes:
        network: On ``device``, in evaluation mode.
        frame: The size of its pictures.
        writer: Of its prompts.
        device: Where it is.
        precision: Type that it computes in, where that is safe.
        calls: Pictures it takes at once.
        phrase_score: A phrase's score is the highest or the mean of its tokens'.
    """

    network: Network
    frame: Frame
    writer: PromptWriter
    device: str
    precision: torch.dtype
    calls: CallSize
    phrase_score: Literal["max", "mean"] = "max"

    @torch.inference_mode()
    def __call__(self, images: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        """For each picture, what was found for its phrases; nothing is asked about a picture without readable ones."""
        written = [self.writer.write(mine) for mine in phrases]
        asks = [
            self._ask(images[number], number, prompt)
            for number, writing in enumerate(written)
            for prompt in writing.prompts
        ]
        answers: list[list[tuple[Prompt, _Answer]]] = [[] for _ in images]
        for ask, answer in self._answers(sorted(asks, key=lambda ask: ask.shape), images):
            answers[ask.number].append((ask.prompt, answer))
        return [
            self._detections(image, len(mine), found, writing.unread)
            for image, mine, found, writing in zip(images, phrases, answers, written, strict=True)
        ]

    def _ask(self, image: Picture, number: int, prompt: Prompt) -> _Ask:
        tokens = -(-len(prompt.ids) // TOKENS) * TOKENS
        return _Ask(self.frame.padded(image.height, image.width), tokens, number, prompt)

    def _answers(self, asks: Sequence[_Ask], images: Sequence[Picture]) -> Iterator[tuple[_Ask, _Answer]]:
        def draw(ask: _Ask) -> tuple[_Ask, Tensor]:
            return ask, ready(self.frame.draw(read_picture(images[ask.number])), self.device)

        drawn = ahead(draw, asks, 2 * self.calls.size, self.device)
        for _, alike in groupby(drawn, key=lambda pair: pair[0].shape):
            yield from self.calls.run(alike, self._call)

    def _call(self, drawn: Sequence[tuple[_Ask, Tensor]], size: int) -> list[tuple[_Ask, _Answer]]:
        asks = [ask for ask, _ in drawn]
        pixels, is_picture = self.frame.fill([picture for _, picture in drawn], size, asks[0].padded, self.device)
        full = [asks[min(place, len(asks) - 1)].prompt.ids for place in range(size)]
        ids = torch.zeros(size, asks[0].tokens, dtype=torch.long)
        for row, mine in zip(ids, full, strict=True):
            row[: len(mine)] = torch.tensor(mine)
        is_text = torch.arange(asks[0].tokens) < torch.tensor([[len(mine)] for mine in full])
        with torch.autocast(self.device, self.precision, enabled=self.precision != torch.float32):
            texts = moved(ready(ids, self.device), self.device), moved(ready(is_text, self.device), self.device)
            boxes, logits = self.network.detect(pixels, is_picture, *texts)
        likely = logits.float().sigmoid()[:, :, : asks[0].tokens].cpu().numpy()
        places = boxes.double().cpu().numpy()
        return [(ask, _Answer(places[row], likely[row])) for row, ask in enumerate(asks)]

    def _detections(
        self, image: Picture, count: int, found: Sequence[tuple[Prompt, _Answer]], unread: Mapping[int, str]
    ) -> Detections:
        """The answers to one picture's prompts together, as pixels and phrases."""
        boxes = [_corners(answer.boxes, image.width, image.height) for _, answer in found]
        scores = [self._scores(prompt, answer, count) for prompt, answer in found]
        return Detections(
            np.concatenate([*boxes, np.zeros((0, 4))]), np.vstack([*scores, np.zeros((0, count))]), unread
        )

    def _scores(self, prompt: Prompt, answer: _Answer, count: int) -> Floats:
        scores = np.zeros((len(answer.boxes), count))
        for phrase, places in prompt.places.items():
            mine = answer.probabilities[:, places]
            scores[:, phrase] = mine.max(axis=1) if self.phrase_score == "max" else mine.mean(axis=1)
        return scores


def _corners(boxes: Floats, width: int, height: int) -> Floats:
    centres, halves = boxes[:, :2], boxes[:, 2:] / 2
    return np.hstack([centres - halves, centres + halves]) * (width, height, width, height)
