"""What becomes of every kind of bad row: ``python -m benchmarks.bad_input``."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.bad_input.cases import CASES, Case
from benchmarks.bad_input.contenders import Outcomes, Run, img2dataset, inlay
from benchmarks.bad_input.process import Ended
from benchmarks.bad_input.rows import Place, Secret, secret, write_rows
from benchmarks.bad_input.score import Mark, expected, judge_all
from benchmarks.bad_input.server import HOST

RESULTS = Path(__file__).parents[1] / "results" / "bad_input.json"
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A contender's scorecard.

    Attributes:
        marks: One a row.
        wall_s: Seconds that the whole job took; ``is_ended`` by itself.
        above_mib: Peak memory above that of a job of one good row.
        secrets_read: How often the picture on this machine was opened.
    """

    marks: tuple[Mark, ...]
    wall_s: float
    is_ended: bool
    above_mib: float
    secrets_read: int

    @property
    def right(self) -> int:
        """Rows with the right decision."""
        return sum(mark.is_right for mark in self.marks)


@contextmanager
def served(folder: Path) -> Iterator[tuple[Place, Secret]]:
    """The server, in a process of its own, and the secret picture, in ``folder``."""
    path = folder / "secret.jpg"
    command = [sys.executable, "-m", "benchmarks.bad_input.server", str(path)]
    with (
        secret(path) as watched,
        subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as server,  # noqa: S603 (our own words)
    ):
        assert server.stdout
        try:
            port = int(server.stdout.readline())
            yield Place(f"http://{HOST}:{port}", 1, path), watched
        finally:
            server.terminate()


def run_card(cases: Sequence[Case], run: Run, who: str, folder: Path, any_reason: bool = False) -> Card:
    """A contender's scorecard on these rows; the folder gets its output and its logs."""
    with served(folder) as (place, watched):
        baseline, _ = _run(cases[:1], run, f"{who}-baseline", folder, place)
        ended, outcomes = _run(cases, run, who, folder, place)
        return Card(
            marks=judge_all(cases, outcomes, any_reason),
            wall_s=ended.wall_s,
            is_ended=ended.code is not None,
            above_mib=ended.peak_mib - baseline.peak_mib,
            secrets_read=watched.readers,
        )


def _run(cases: Sequence[Case], run: Run, who: str, folder: Path, place: Place) -> tuple[Ended, Outcomes]:
    rows = folder / f"{who}.parquet"
    write_rows(rows, cases, who, place)
    return run(rows, folder / f"{who}-out", folder / f"{who}.log")


def show(cases: Sequence[Case], cards: dict[str, Card]) -> None:
    """Print the table, rows that somebody has wrong in colour, and what each job cost."""
    table = Table("class", "right", *cards)
    for i, case in enumerate(cases):
        found = [card.marks[i] for card in cards.values()]
        table.add_row(case.name, expected(case), *(Text(m.found, "" if m.is_right else "red") for m in found))
    console = Console(width=200)
    console.print(table)
    for name, card in cards.items():
        corrupt = sum(mark.is_corrupt for mark in card.marks)
        console.print(
            f"{name}: {card.right} of {len(cases)} right, {corrupt} kept wrong; {card.wall_s:.1f} s"
            f"{'' if card.is_ended else ', then killed'}; {card.above_mib:.0f} MiB above a job of one row; "
            f"the file on this machine was read {card.secrets_read} times"
        )


def main(
    peer: Annotated[Path | None, typer.Option(help="Virtual environment that has img2dataset")] = None,
    ray: Annotated[bool, typer.Option(help="Also run Inlay on Ray")] = True,
    keep: Annotated[Path | None, typer.Option(help="Folder for outputs and logs, instead of one that goes")] = None,
    out: Annotated[Path, typer.Option(help="JSON file")] = RESULTS,
) -> None:
    """Score Inlay, and img2dataset beside it, on every class of bad input."""
    from benchmarks.measure import machine  # it loads torch, which tests of the scorecard need not

    folder = keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    cards = {"Inlay --local": run_card(CASES, inlay("--local"), "local", folder)}
    if ray:
        cards["Inlay on Ray"] = run_card(CASES, inlay(), "ray", folder)
    if peer:
        cards["img2dataset"] = run_card(CASES, img2dataset(peer.absolute()), "img2dataset", folder, any_reason=True)
    show(CASES, cards)
    rows = [{"class": case.name, "right": expected(case)} for case in CASES]
    found = {"machine": machine("cpu"), "rows": rows, "cards": {name: asdict(card) for name, card in cards.items()}}
    out.write_text(json.dumps(found, indent=1) + "\n")
    if not keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
