"""What trained models drew, as a table for a page: a prompt a row, a model a column, all pictures inside the page."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.report.pictures import data_uri


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt, in pieces of text and files of pictures, and the picture that it was made of."""

    pieces: tuple[str | Path, ...]
    scene: Path


@dataclass(frozen=True, slots=True)
class Column:
    """A model, a picture of each row's prompt, and the commands that trained it and drew them."""

    title: str
    pictures: tuple[Path, ...]
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DrawnGrid:
    """All that was drawn.

    Raises:
        ValueError: If a model has not drawn a picture a row.
    """

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        for column in self.columns:
            if len(column.pictures) != len(self.rows):
                raise ValueError(f"{column.title} drew {len(column.pictures)} pictures for {len(self.rows)} prompts")


@dataclass(frozen=True, slots=True)
class PieceView:
    """Words, or a picture as a data URI."""

    text: str = ""
    picture: str = ""


@dataclass(frozen=True, slots=True)
class RowView:
    """A row as the page shows it: its prompt, what it was made of, and each model's picture."""

    pieces: tuple[PieceView, ...]
    scene: str
    pictures: tuple[str, ...]


def view_rows(grid: DrawnGrid) -> Iterator[RowView]:
    """The rows with their pictures in them.

    Raises:
        OSError: If a picture can't be read.
    """
    for number, row in enumerate(grid.rows):
        yield RowView(
            pieces=tuple(_view(piece) for piece in row.pieces),
            scene=_png(row.scene),
            pictures=tuple(_png(column.pictures[number]) for column in grid.columns),
        )


def _view(piece: str | Path) -> PieceView:
    return PieceView(text=piece) if isinstance(piece, str) else PieceView(picture=_png(piece))


def _png(path: Path) -> str:
    return data_uri(path.read_bytes(), "image/png")
