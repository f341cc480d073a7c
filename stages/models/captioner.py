"""Pictures and prompts to text, in batches, with the same text for a picture whatever its company."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, Protocol

import torch
from PIL import Image, ImageOps
from torch import Tensor

from stages.models.architecture import Architecture, Inputs
from stages.models.memory import CallSize
from stages.models.sampling import NanWatch, SeededSampler
from stages.models.torchvision_compat import ensure_torchvision
from stages.pixels import Pixels

ensure_torchvision()

from transformers import LogitsProcessorList  # noqa: E402


@dataclass(frozen=True, slots=True)
class Answer:
    """What a captioner wrote, without special tokens and spaces at its ends.

    ``end``: it came to its ``stop``; it is ``cut`` at the most tokens allowed; its scores were no numbers (``nan``) or
    its question has ``no_room`` in the network, and there is no text.
    """

    text: str
    end: Literal["stop", "cut", "nan", "no_room"]


class Captioner(Protocol):
    """Writes about pictures."""

    def prompt(self, given: str | None) -> str:
        """What to ask it: a given prompt, or its own for a caption.

        Raises:
            ValueError: If it knows no such prompt.
        """
        ...

    def __call__(self, images: Sequence[Pixels], prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        """An answer for each picture and its prompt, in order. They do not influence each other.

        Args:
            images: Any number, of any size.
            prompts: One for each.
            seeds: One for each, for a captioner that samples.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a captioner is asked, and how it chooses tokens: the likeliest, the likeliest of several beams, or sampled.

    Attributes:
        max_new_tokens: Longest answer.
        num_beams: Beams; 1 is greedy search.
        temperature: Above 0, tokens are sampled, with one beam.
        top_p: See :class:`SeededSampler`.
        images_per_call: Questions asked at once.
        image_side: Pictures are put on a black square of so many pixels first, so that all have one size.
        precision: Type of the weights.
    """

    max_new_tokens: int
    num_beams: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    images_per_call: int = 8
    image_side: int | None = None
    precision: torch.dtype = torch.float32


@dataclass(frozen=True, slots=True)
class _Question:
    """A picture and its prompt as the network takes them, and where its answer belongs."""

    place: int
    inputs: Inputs
    seed: int

    @property
    def length(self) -> int:
        """Tokens of picture and prompt."""
        return self.inputs["input_ids"].shape[1]

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """What questions that are asked together must have in common."""
        return tuple(tuple(part.shape) for part in self.inputs.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCaptioner:
    """A :class:`Captioner` around a network, with questions in batches.

    Nothing is padded: only questions of one length, with pictures of one size, are asked together, longest first, and a
    call that they do not fill is filled up with copies of its last, whose answers are thrown away. So a question always
    meets sums of the same shape; sums of another shape would differ in their last bits, and now and then in a word.

    Attributes:
        network: On ``device``, in evaluation mode, with a generation config that follows ``settings``.
        processor: Of ``architecture``.
        architecture: What the network is.
        settings: How it is asked.
        device: Where it is.
        room: Most tokens of picture and prompt that the network takes.
        special: Matches the tokenizer's special tokens; in a prompt they would pass for pictures or turns.
        calls: How many questions are asked at once.
    """

    network: Any
    processor: Any
    architecture: Architecture
    settings: Settings
    device: str
    room: float
    special: re.Pattern[str]
    calls: CallSize

    def prompt(self, given: str | None) -> str:
        """A given prompt, or the architecture's own."""
        known = self.architecture.only_prompts
        if given and known and given not in known:
            raise ValueError(f"{type(self.network).__name__} takes no prompt {given!r}; it knows {', '.join(known)}")
        return given or self.architecture.prompt

    @torch.inference_mode()
    def __call__(self, images: Sequence[Pixels], prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        """An answer for each picture and its prompt, in order."""
        answers = [Answer("", "no_room")] * len(images)
        asked = list(enumerate(zip(images, prompts, seeds, strict=True)))
        questions = [_Question(place, self._encode(image, prompt), seed) for place, (image, prompt, seed) in asked]
        for group in _alike([question for question in questions if question.length <= self.room]):
            for question, answer in zip(group, self.calls.run(group, self._ask), strict=True):
                answers[question.place] = answer
        return answers

    def _encode(self, image: Pixels, prompt: str) -> Inputs:
        picture, side = Image.fromarray(image), self.settings.image_side
        squared = ImageOps.pad(picture, (side, side)) if side else picture
        plain = prompt if self.architecture.only_prompts else self.special.sub(" ", prompt)
        return self.architecture.encode(self.processor, squared, plain)

    def _ask(self, questions: Sequence[_Question], size: int) -> list[Answer]:
        full = [*questions, *[questions[-1]] * (size - len(questions))]
        inputs = {name: self._placed([question.inputs[name] for question in full]) for name in full[0].inputs}
        watch = NanWatch(len(full) * self.settings.num_beams, self.device)
        tokens = self.network.generate(**inputs, logits_processor=self._processors(watch, full))
        is_nan = watch.is_nan.view(len(full), -1).any(dim=1).tolist()
        start = 1 if self.network.config.is_encoder_decoder else full[0].length
        return [self._answer(row, bad) for row, bad in zip(tokens[:, start:].tolist(), is_nan, strict=True)][
            : len(questions)
        ]

    def _placed(self, parts: Sequence[Tensor]) -> Tensor:
        joined = torch.cat(list(parts)).to(self.device)
        return joined.to(self.settings.precision) if joined.is_floating_point() else joined

    def _processors(self, watch: NanWatch, questions: Sequence[_Question]) -> LogitsProcessorList:
        if not self.settings.temperature:
            return LogitsProcessorList([watch])
        seeds = [question.seed for question in questions]
        return LogitsProcessorList([watch, SeededSampler(seeds, self.settings.temperature, self.settings.top_p)])

    def _answer(self, tokens: list[int], is_nan: bool) -> Answer:
        if is_nan:
            return Answer("", "nan")
        stops = self.network.generation_config.eos_token_id
        end = next((place for place, token in enumerate(tokens) if token in stops), None)
        text = self.processor.tokenizer.decode(tokens[:end], skip_special_tokens=True).strip()
        return Answer(text, "cut" if end is None else "stop")


def _alike(questions: Sequence[_Question]) -> Iterator[list[_Question]]:
    """The questions that may be asked together, the longest first."""
    ordered = sorted(questions, key=lambda question: (-question.length, question.shape))
    return (list(group) for _, group in groupby(ordered, lambda question: question.shape))
