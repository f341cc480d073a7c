"""Several runs on one page: what each came to, its report, and what models drew that learnt from them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from manifests.files import write_atomically
from pipeline.ledger import Layout
from pipeline.report.drawn import DrawnGrid, view_rows
from pipeline.report.figures import number
from pipeline.totals import Totals

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Entry:
    """A run on the page: its name, its rows and what became of them, and where its report lies from the page."""

    name: str
    rows: int
    line: str
    report: str


def write_overview(page: Path, runs: Sequence[Path], drawn: DrawnGrid | None = None) -> None:
    """Write a page that shows the reports of some runs, in their order; they are linked, not copied.

    Args:
        page: The HTML file to write.
        runs: Output folders, each with its report.
        drawn: What models drew; copied into the page.

    Raises:
        ResumeError: If a folder holds no run.
        OSError: If a picture cannot be read, or the page not written.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    entries = [_entry(page, Layout(run)) for run in runs]
    style = (_HERE / "style.css").read_text("utf-8")
    rows = list(view_rows(drawn)) if drawn else []
    text = environment.get_template("overview.html").render(runs=entries, style=style, drawn=drawn, rows=rows)
    write_atomically(page, text.encode())


def _entry(page: Path, layout: Layout) -> Entry:
    totals = Totals.of(list(layout.unit_records()))
    return Entry(
        name=layout.read_run().name,
        rows=totals.rows,
        line=totals.line,
        report=Path(os.path.relpath(str(layout.report), page.parent)).as_posix(),
    )
