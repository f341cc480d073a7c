"""An entry of the demo's table: what the metadata says, and what the server holds."""

from dataclasses import dataclass

from pipeline.demo.encode import SUFFIXES, encoder_of
from pipeline.demo.server import HOST, MOVED
from pipeline.demo.views import Phrase, View

GOOD = "good"
"""Kind of the entries that nothing is wrong with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row to be.

    Attributes:
        kind: ``good``, or what is wrong with it.
        path: Where the server has it, or a whole URL; ``None`` is a row without URL.
        file: What lies there; ``None`` where nothing new is written.
        view: What it shows, or pretends to show.
        caption: What the metadata says; without marks.
        width: Pixels across, by the metadata.
        height: Pixels down, by the metadata.
        phrases: What the caption names, and where.
    """

    kind: str
    path: str | None
    file: bytes | None
    view: View
    caption: str | None
    width: int
    height: int
    phrases: tuple[Phrase, ...]

    def url(self, port: int) -> str | None:
        """Its URL when the server listens on ``port``."""
        is_ours = self.path is not None and self.path.startswith("/")
        return f"http://{HOST}:{port}{self.path}" if is_ours else self.path


def good_entry(view: View, number: int) -> Entry:
    """The entry of a view; the number decides its name, how it is encoded, and whether one is redirected to it."""
    encode = encoder_of(number)
    return Entry(
        kind=GOOD,
        path=f"{MOVED if number % 100 == 91 else ''}/{view.photo.name}/{number:03d}.{SUFFIXES[encode]}",
        file=encode(view.draw()),
        view=view,
        caption=view.caption,
        width=view.width,
        height=view.height,
        phrases=view.phrases,
    )
