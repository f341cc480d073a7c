"""Requests made ready to be drawn: prompts as the family reads them, with their references' pixels."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from training.families.base import Conditions, Family, SampleConfig
from training.generate.compose import Look, compose
from training.generate.control import controlled
from training.generate.pictures import Picture, read_picture
from training.generate.requests import Request
from training.generate.template import slots
from training.stream.prompts.base import Builder, Colour, Prompt

_WORDS, _DIGEST = 40, 10
"""Characters of a file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A request made ready.

    Attributes:
        request: What was asked for.
        config: How it is drawn.
        prompt: As the family reads it.
        images: Of the request, in the order of their numbers.
        order: Their numbers in the order of the prompt's references.
        control: The control image, which the prompt's first reference is then.
    """

    request: Request
    config: SampleConfig
    prompt: Prompt
    images: tuple[Picture, ...]
    order: tuple[int, ...]
    control: Picture | None = None

    def conditions(self, count: int, device: torch.device | str) -> Conditions:
        """What so many pictures of it are drawn from."""
        pictures = ([self.control] if self.control else []) + [self.images[number] for number in self.order]
        pixels = tuple(torch.from_numpy(picture.pixels).to(device) for picture in pictures)
        return Conditions(prompts=(self.prompt,) * count, references=(pixels,) * count, features={})

    def facts(self) -> dict[str, object]:
        """All that decides its pictures but the weights, as JSON values."""
        control = {"control": self.control.facts()} if self.control else {}
        images = [image.facts() for image in self.images]
        return {"prompt": self.request.prompt, "images": images, **control, **asdict(self.config)}

    def stem(self, weights: str) -> str:
        """What its files' names begin with: its words, and a hash of all that decides its pictures."""
        facts = self.facts() | {"images": [image.sha256 for image in self.images], "weights": weights}
        facts |= {"control": self.control.sha256} if self.control else {}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        words = re.sub(r"[^a-z0-9]+", "-", (self.request.name or self.request.prompt).lower())
        return f"{words[:_WORDS].strip('-') or 'picture'}-{digest[:_DIGEST]}"


def prepare_drawings(
    requests: Sequence[Request], family: Family, builder: Builder, config: SampleConfig
) -> tuple[Drawing, ...]:
    """All requests made ready, so that a mistake in the last shows before the first is drawn.

    Args:
        requests: What is asked for; an image that several name is read once.
        family: That will draw.
        builder: Of the prompts it was trained on.
        config: How to draw; each request has its own seed.

    Raises:
        ValueError: If a prompt or an image is none, or can't be read; the message says where.
    """
    desk = _Desk(family, builder if isinstance(builder, Look) else None, config, {})
    drawings = []
    for request in requests:
        try:
            drawings.append(desk.prepare(request))
        except (OSError, ValueError) as error:
            raise ValueError(request.blame(error)) from error
    return tuple(drawings)


@dataclass(frozen=True, slots=True)
class _Desk:
    """What all requests are made ready with; ``read`` holds images by file."""

    family: Family
    look: Look | None
    config: SampleConfig
    read: dict[Path, Picture]

    def prepare(self, request: Request) -> Drawing:
        template = request.template()
        prompt = compose(template, self.family.insertion, self.look)
        return Drawing(
            request=request,
            config=replace(self.config, seed=request.seed),
            prompt=controlled(prompt, self.look) if request.control else prompt,
            images=tuple(self._picture(path) for path in request.images),
            order=slots(template),
            control=self._control(request.control) if request.control else None,
        )

    def _picture(self, path: Path) -> Picture:
        assert self.look is not None, "prompts without it have neither slots nor controls, and no image is without one"
        if path not in self.read:
            self.read[path] = read_picture(path, self.look)
        return self.read[path]

    def _control(self, path: Path) -> Picture:
        assert self.look is not None, "prompts with a control have it"
        return read_picture(path, _AsItIs(fill=self.look.fill))


@dataclass(frozen=True, slots=True, kw_only=True)
class _AsItIs:
    """The look of what shows a whole picture: in training its square is cut from it, not filled up."""

    fill: Colour
    side: None = None
