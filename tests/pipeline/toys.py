"""A source and stages that need no pictures from anywhere, and go wrong on demand."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from manifests.dag import ManifestFile, parse_manifest
from manifests.record import Picture, Record, Row, Verdict
from pipeline.sources.base import Part, Source, Unit
from stages.base import Context, Drop, Fail, Params, Stage
from stages.pixels import write_jpeg
from tests.pipeline.hazards import strike


class Numbers(Source):
    """So many rows with a number in ``alt_text`` each; every tenth has nothing."""

    gives = frozenset({"alt_text", "url"})
    reasons: ClassVar = {"no_url": "the row has no URL"}

    def __init__(self, *rows: int) -> None:
        self.parts = tuple(Part(f"part{i}", count, f"{i:x}".ljust(64, "0")) for i, count in enumerate(rows))

    def read(self, unit: Unit) -> list[Row]:
        part = self.parts[unit.part]
        return [self._row(part, number) for number in range(unit.start, unit.stop)]

    def _row(self, part: Part, number: int) -> Row:
        record = Record(
            key=part.key(number), source=part.name, row=number, alt_text=str(number), url=f"http://x/{number}"
        )
        if number % 10 == 9:
            return Row(record=record, verdict=Verdict(kind="failed", node="source", reason="no_url"))
        return Row(record=record)


class Hanging(Numbers):
    """The same, but that reading the unit of one row never ends while a file is there: a pipe that nobody writes to."""

    def __init__(self, pipe: str, row: int, *rows: int) -> None:
        super().__init__(*rows)
        self._pipe = Path(pipe)
        self._hangs_at = row

    def read(self, unit: Unit) -> list[Row]:
        if unit.start <= self._hangs_at < unit.stop and self._pipe.exists():
            self._pipe.read_bytes()
        return super().read(unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintIn:
    key: str
    row: int
    alt_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintOut:
    image: Picture
    original_width: int
    original_height: int


class PaintParams(Params):
    drops: tuple[int, ...] = Field((3,), description="Rows to drop.")
    fails: tuple[int, ...] = Field((5,), description="Rows to fail.")
    raises: tuple[int, ...] = Field((), description="Rows to raise on.")
    error: str = Field("ValueError", description="What to raise.")
    hazards: dict[int, str] = Field({}, description="What rows do to the process: a name of `tests.pipeline.hazards`.")
    tally: str = Field("", description="A file that grows by a byte with every hazard.")
    times: int = Field(1, description="With a tally: the hazards happen so many times in all.")
    seen: str = Field("", description="A folder where a file NODE/ROW is made for each row, by the Ray node.")
    side: int = Field(24, description="Height of the pictures, which are noise from 100 up.")
    pause_s: float = Field(0, description="How long each batch takes.")
    load_error: str = Field("", description="What to raise when loaded.")
    returns: str = Field("", description="`few`, `wrong_type` or `undeclared`: how to break the contract.")


class Paint(Stage[PaintIn, PaintOut]):
    """A small picture whose colours say its row."""

    In, Out, Params = PaintIn, PaintOut, PaintParams
    reasons: ClassVar = {"unlucky": "its number is on the list", "broken": "its number is on the other list"}

    def __init__(self, params: PaintParams, seed: int) -> None:
        self.params = params
        self.seed = seed

    @classmethod
    def load(cls, params: PaintParams, context: Context) -> "Paint":
        if params.load_error == "death":
            strike("kill", "", 0)
        if params.load_error:
            raise _error(params.load_error)
        return cls(params, context.seed)

    def process(self, batch: Sequence[PaintIn]) -> list[Any]:
        if self.params.returns == "few":
            return []
        time.sleep(self.params.pause_s)
        return [self._paint(record) for record in batch]

    def _paint(self, record: PaintIn) -> Any:
        if hazard := self.params.hazards.get(record.row):
            strike(hazard, self.params.tally, self.params.times)
        if record.row in self.params.raises:
            raise _error(self.params.error)
        if record.row in self.params.drops:
            return Drop("unlucky", f"{record.row} is on the list")
        if record.row in self.params.fails:
            return Fail("undeclared" if self.params.returns == "undeclared" else "broken")
        if self.params.returns == "wrong_type":
            return "a picture"
        if self.params.seen:
            note(Path(self.params.seen), record.row)
        pixels = np.full((self.params.side, 32, 3), (record.row % 256, self.seed % 256, 128), np.uint8)
        if self.params.side >= 100:
            pixels = np.random.default_rng(record.row).integers(0, 256, pixels.shape, np.uint8)
        return PaintOut(image=write_jpeg(pixels), original_width=32, original_height=self.params.side)


class PaintWhole(Paint):
    """The same for all of a unit at once."""

    takes_unit = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LookIn:
    image: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class LookOut:
    pass


class LookParams(Params):
    pause_s: float = Field(0, description="How long each batch takes.")


class Look(Stage[LookIn, LookOut]):
    """Nothing but time spent before pictures."""

    In, Out, Params = LookIn, LookOut, LookParams

    def __init__(self, pause_s: float) -> None:
        self.pause_s = pause_s

    @classmethod
    def load(cls, params: LookParams, context: Context) -> "Look":
        return cls(params.pause_s)

    def process(self, batch: Sequence[LookIn]) -> list[Any]:
        time.sleep(self.pause_s)
        return [LookOut() for _ in batch]


def note(folder: Path, row: int) -> None:
    """Leave word of which Ray node a row was on, if any."""
    import ray

    if not ray.is_initialized():
        return
    place = folder / ray.get_runtime_context().get_node_id()
    place.mkdir(parents=True, exist_ok=True)
    (place / str(row)).touch()


def _error(name: str) -> Exception:
    errors: dict[str, Exception] = {
        "ValueError": ValueError("odd value"),
        "NameError": NameError("name 'x' is not defined"),
        "ImportError": ImportError("No module named 'x'"),
        "ENOSPC": OSError(28, "No space left on device"),
        "OSError": OSError(5, "Input/output error"),
    }
    return errors[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class NameIn:
    alt_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NameOut:
    caption: str


class Name(Stage[NameIn, NameOut]):
    """A caption."""

    In, Out, Params = NameIn, NameOut, Params

    @classmethod
    def load(cls, params: Params, context: Context) -> "Name":
        return cls()

    def process(self, batch: Sequence[NameIn]) -> list[Any]:
        return [NameOut(caption=f"number {record.alt_text}") for record in batch]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrabIn:
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrabOut:
    original: bytes


class Grab(Stage[GrabIn, GrabOut]):
    """A file as long as its URL, without a network."""

    In, Out, Params = GrabIn, GrabOut, Params

    @classmethod
    def load(cls, params: Params, context: Context) -> "Grab":
        return cls()

    def process(self, batch: Sequence[GrabIn]) -> list[Any]:
        return [GrabOut(original=bytes(len(record.url))) for record in batch]


TOYS: dict[str, type[Stage[Any, Any]]] = {
    "paint": Paint,
    "paint_whole": PaintWhole,
    "look": Look,
    "name": Name,
    "grab": Grab,
}


def manifest(
    params: str = "{}",
    extra: str = "",
    batch_size: int = 4,
    seed: int = 7,
    paint: str = "",
    name: str = "",
    first: str = "paint",
    source: str = "",
) -> ManifestFile:
    """A manifest that paints and names numbers.

    ``paint`` and ``name`` are further settings of these nodes, ``first`` is the stage of the former;
    ``extra`` is more nodes or settings, ``source`` further settings of the source.
    """
    return parse_manifest(
        f"""
name: toy
seed: {seed}
source: {{kind: parquet, paths: [numbers], unit_rows: 8, {source}}}
nodes:
- {{id: paint, stage: {first}, batch_size: {batch_size}, params: {params}, {paint}}}
- {{id: name, stage: name, needs: [paint], {name}}}
{extra}
""",
        "toy.yaml",
    )
