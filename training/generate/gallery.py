"""A folder of drawn pictures: each a PNG beside a JSON file that says what it was drawn from."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image

from manifests.files import atomic_file, write_atomically
from training.families.base import Family
from training.generate.drawing import Drawing
from training.generate.memory import explained_shortage
from training.stream.geometry import Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The weights that pictures are drawn with.

    Attributes:
        recipe: Name of the run's recipe.
        run: Its folder.
        step: Of its checkpoint.
        is_averaged: Whether averaged weights were taken, if the run has any.
        weights: A hash of what they are, so that a run made anew in the same folder draws anew.
    """

    recipe: str
    run: str
    step: int
    is_averaged: bool
    weights: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Draws into a folder. A picture that is there stays: its name has a hash of all that decides it.

    Attributes:
        family: That draws.
        origin: Its weights.
        folder: Of the pictures.
        count: Pictures of a prompt.
        batch: Pictures drawn at once.
        device: That the family is on.
    """

    family: Family
    origin: Origin
    folder: Path
    count: int = 1
    batch: int = 4
    device: torch.device | str = "cpu"

    def draw(self, drawing: Drawing) -> Iterator[Path]:
        """The pictures of a request in order, drawn where they are not there yet; each is written whole or not at all.

        A picture depends on its own number, and not on those drawn with it.

        Raises:
            ValueError: If the family can't draw it; the message says what to change.
            OSError: If the folder can't be written.
        """
        paths = self.paths(drawing)
        for start in range(0, self.count, self.batch):
            part = paths[start : start + self.batch]
            if not all(path.exists() for path in part):
                self._draw(drawing, start, part)
            yield from part

    def paths(self, drawing: Drawing) -> list[Path]:
        """The files of a request's pictures."""
        stem = drawing.stem(self._weights)
        return [self.folder / f"{stem}-{number}.png" for number in range(self.count)]

    def digest(self, drawings: Sequence[Drawing]) -> str:
        """A short hash of all that decides the pictures of some requests."""
        stems = "".join(drawing.stem(self._weights) for drawing in drawings)
        return hashlib.sha256(stems.encode()).hexdigest()[:10]

    @property
    def _weights(self) -> str:
        return json.dumps(asdict(self.origin))

    def _draw(self, drawing: Drawing, first: int, paths: Sequence[Path]) -> None:
        conditions = drawing.conditions(len(paths), self.device)
        try:
            with torch.no_grad(), explained_shortage(len(paths), self.device):
                pictures = self.family.sample(conditions, drawing.config, first)
        except ValueError as error:
            raise ValueError(drawing.request.blame(error)) from error
        for number, (path, picture) in enumerate(zip(paths, pictures.cpu().numpy(), strict=True), first):
            write_picture(path, picture, drawing.facts() | {"number": number} | asdict(self.origin))


def write_picture(path: Path, picture: Pixels, facts: Mapping[str, object]) -> None:
    """Write a picture, and beside it what it was drawn from; the picture last, so that where it is, all is."""
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    write_atomically(path.with_suffix(".json"), text.encode(errors="backslashreplace"))  # names of files may be bytes
    with atomic_file(path) as file:
        Image.fromarray(picture).save(file, "PNG")
