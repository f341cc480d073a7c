"""Grids of samples: a row a prompt, with its references, its text, the true picture and what was drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap

import numpy as np
from PIL import Image, ImageDraw

from manifests.files import atomic_file
from training.families.base import Conditions, Family, SampleConfig, conditions_of
from training.stream.geometry import Pixels
from training.stream.tensors import BatchTensors
from training.stream.world import Group

_SIDE, _GAP, _LINES = 160, 4, 11
"""Pixels of a cell and between cells; lines of text in a cell. Our choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a prompt shows in a grid; uint8, (height, width, 3)."""

    caption: str
    references: tuple[Pixels, ...]
    target: Pixels
    sample: Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Draws the first targets of each rank's batch anew and writes ``step_00001000.png``.

    Attributes:
        folder: Of the pictures.
        group: Ranks that draw; the first writes.
        is_first: Whether this is that rank.
        config: How to draw.
        rows: Of each rank, at most.
    """

    folder: Path
    group: Group
    is_first: bool
    config: SampleConfig
    rows: int = 4

    def __call__(self, family: Family, tensors: BatchTensors, step: int) -> None:
        """Draw; every rank calls it."""
        conditions = _first(conditions_of(tensors), self.rows)
        width, height = tensors.batch.place.size
        drawn = family.sample(conditions, replace(self.config, size=self.config.size or (width, height), cuts=True))
        own = [_row(conditions, tensors, drawn[number].cpu().numpy(), number) for number in range(len(conditions))]
        rows = [row for rank in self.group.gather(own) for row in rank]
        if self.is_first:
            write_grid(rows, self.folder / f"step_{step:08d}.png")


def write_grid(rows: Sequence[Row], path: Path) -> None:
    """Write rows as one PNG, whole or not at all."""
    columns = max(len(row.references) for row in rows)
    page = Image.new("RGB", (_at(columns + 3), _at(len(rows))), "white")
    for line, row in enumerate(rows):
        for column, picture in enumerate(row.references):
            page.paste(_cell(picture), (_at(column), _at(line)))
        page.paste(_text(row.caption), (_at(columns), _at(line)))
        page.paste(_cell(row.target), (_at(columns + 1), _at(line)))
        page.paste(_cell(row.sample), (_at(columns + 2), _at(line)))
    with atomic_file(path) as file:
        page.save(file, "PNG")


def _first(conditions: Conditions, count: int) -> Conditions:
    return Conditions(
        prompts=conditions.prompts[:count],
        references=conditions.references[:count],
        features={name: value[:count] for name, value in conditions.features.items()},
    )


def _row(conditions: Conditions, tensors: BatchTensors, sample: Pixels, number: int) -> Row:
    pixels = [picture for picture in conditions.references[number] if picture is not None]
    return Row(
        caption=conditions.prompts[number].caption,
        references=tuple(picture.cpu().numpy() for picture in pixels),
        target=tensors.images[number].cpu().numpy(),
        sample=sample,
    )


def _at(cell: int) -> int:
    """Where a cell begins; that of the one behind the last is the page's size."""
    return _GAP + cell * (_SIDE + _GAP)


def _cell(pixels: Pixels) -> Image.Image:
    """A picture fitted into a cell, in its middle."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    scale = _SIDE / max(picture.size)
    small = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    cell = Image.new("RGB", (_SIDE, _SIDE), "white")
    cell.paste(small, ((_SIDE - small.width) // 2, (_SIDE - small.height) // 2))
    return cell


def _text(caption: str) -> Image.Image:
    cell = Image.new("RGB", (_SIDE, _SIDE), "white")
    text = "\n".join(wrap(caption, 24, max_lines=_LINES, placeholder=" …"))
    ImageDraw.Draw(cell).multiline_text((2, 2), text, fill="black")
    return cell
