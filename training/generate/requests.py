"""What pictures are asked for: a prompt, its images, a seed; one, or a file of many."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.generate.template import Template, check_images, parse_template

_FIELDS = {"prompt", "images", "control", "seed", "name"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Pictures of one prompt.

    Attributes:
        prompt: As :func:`training.generate.template.parse_template` reads it.
        images: Files of its images, in the order of their numbers.
        control: File of the control image, if there is one.
        seed: Of the noise.
        name: What the pictures' files begin with; empty: the prompt's own words.
        where: Place that it was written in, for errors; empty if there is but one.
    """

    prompt: str
    images: tuple[Path, ...] = ()
    control: Path | None = None
    seed: int = 0
    name: str = ""
    where: str = ""

    def template(self) -> Template:
        """Its prompt, which uses just its images.

        Raises:
            ValueError: If it is no template, or its slots and its images are not of each other.
            FileNotFoundError: If an image is not there.
        """
        template = parse_template(self.prompt)
        check_images(template, [str(image) for image in self.images])
        for number, image in enumerate(self.images):
            if not image.is_file():
                raise FileNotFoundError(f"image {number}: there is no file {image}")
        if self.control and not self.control.is_file():
            raise FileNotFoundError(f"control: there is no file {self.control}")
        return template

    def blame(self, error: Exception) -> str:
        """An error of this request, in words that say where it is."""
        return f"{self.where}: {error}" if self.where else str(error)


def read_requests(path: Path, seed: int) -> tuple[Request, ...]:
    """The requests in a file of JSON lines: ``{"prompt": …, "images": […], "control": …, "seed": …, "name": …}``.

    Args:
        path: The file; images and controls in it are relative to its folder. All but the prompt may be left out, and
            lines may be empty.
        seed: Of those that name none.

    Raises:
        ValueError: If a line is none, or there is no line; the message names it.
        OSError: If the file can't be read.
    """
    requests = tuple(_read(path, seed))
    if not requests:
        raise ValueError(
            f'{path}: there is no prompt in it; a line is {{"prompt": "a {{0}} dog", "images": ["a.jpg"]}}'
        )
    return requests


def checked(requests: tuple[Request, ...]) -> tuple[Request, ...]:
    """The requests, if all their words are right and all their images are there.

    Raises:
        ValueError: Otherwise; it says where.
    """
    for request in requests:
        try:
            request.template()
        except (OSError, ValueError) as error:
            raise ValueError(request.blame(error)) from error
    return requests


def _read(path: Path, seed: int) -> Iterator[Request]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8: {error}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _request(line, f"{path}:{number}", path.parent, seed)


def _request(line: str, where: str, folder: Path, seed: int) -> Request:
    try:
        plain = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: no JSON: {error}") from None
    _check(plain, where)
    return Request(
        prompt=plain["prompt"],
        images=tuple(folder / image for image in plain.get("images", ())),
        control=folder / plain["control"] if "control" in plain else None,
        seed=plain.get("seed", seed),
        name=plain.get("name", ""),
        where=where,
    )


def _check(plain: Any, where: str) -> None:
    if not isinstance(plain, dict) or not isinstance(plain.get("prompt"), str):
        raise ValueError(f'{where}: expected an object with a "prompt", got {plain!r}')
    if unknown := sorted(plain.keys() - _FIELDS):
        raise ValueError(f"{where}: no field {unknown[0]!r}; there are {', '.join(sorted(_FIELDS))}")
    images = plain.get("images", [])
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise ValueError(f"{where}: images must be a list of files, got {images!r}")
    if not _is_seed(plain.get("seed", 0)):
        raise ValueError(f"{where}: seed must be a whole number from 0, got {plain['seed']!r}")
    for field in ("name", "control"):
        if not isinstance(plain.get(field, ""), str):
            raise ValueError(f"{where}: {field} must be a text, got {plain[field]!r}")


def _is_seed(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
