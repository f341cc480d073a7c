"""The report: one self-contained page about a run, which opens from disk and asks the network for nothing."""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from manifests.files import AnyPath, atomic_file
from manifests.record import to_plain
from pipeline.ledger import Layout, RunInfo
from pipeline.report import figures
from pipeline.report.collect import RunSummary, choose, collect
from pipeline.report.pictures import data_uri
from pipeline.report.samples import SampleView, read_samples, sides
from pipeline.report.survey import distributions

_HERE = Path(__file__).parent
_CHUNK = 20

INSERTIONS = {
    "replace": "the picture stands instead of its words",
    "before": "the picture comes before its words, which stay",
    "feature": "the picture lies on its words and overwrites their features",
    "side": "the picture stands beside the text, as a condition",
}
"""What people should know of each way a picture enters the text."""


def write_report(out: AnyPath, samples: int = 1000) -> AnyPath:
    """Write the report of the run in ``out``, which may still be going or have stopped, to ``report/index.html``.

    The page depends on nothing but the folder, appears whole or not at all, and is written sample by sample, so that
    memory does not grow with their number.

    Args:
        out: Output folder of a run.
        samples: How many kept samples to show at most; evenly spread over the run.

    Returns:
        Where the page lies.

    Raises:
        ResumeError: If no run was ever started there.
        FileNotFoundError: If a committed file is gone.
        SchemaVersionError: If a newer Inlay wrote it.
    """
    layout = Layout(out)
    return write_page(layout, collect(layout), samples)


def write_page(layout: Layout, summary: RunSummary, samples: int) -> AnyPath:
    """Write the report of a run that is collected already; else as :func:`write_report`."""
    chosen = choose(summary.units, samples)
    shown = sum(map(len, chosen.values()))
    views = read_samples(layout, chosen, sides(shown), summary.info.buckets)
    with atomic_file(layout.report) as file:
        for piece in _render(summary, shown, views):
            file.write(piece.encode())
    return layout.report


def _render(summary: RunSummary, shown: int, views: Iterator[SampleView]) -> Iterator[str]:
    style, script = ((_HERE / name).read_text("utf-8") for name in ("style.css", "report.js"))
    return (
        _environment()
        .get_template("page.html")
        .generate(
            run=summary,
            info=summary.info,
            shown=shown,
            chunks=_chunks(views),
            comparison=summary.comparison,
            distributions=distributions(summary.survey, summary.info.buckets),
            insertions={name: text for name, text in INSERTIONS.items() if summary.survey.insertions[name]},
            meanings=_meanings(summary.info),
            style=style,
            script=script,
            style_hash=_csp_hash(style),
            script_hash=_csp_hash(script),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": figures.number,
        "share": figures.share,
        "size": figures.size,
        "duration": figures.duration,
        "moment": figures.moment,
        "jpeg": lambda data: data_uri(data, "image/jpeg"),
        "settings": json.loads,
    }
    return environment


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some samples in a row: what the filter looks at, parsed at once, and all the rest, parsed when shown."""

    index: list[list[Any]]
    samples: list[dict[str, Any]]


def _chunks(views: Iterator[SampleView]) -> Iterator[Chunk]:
    while batch := list(islice(views, _CHUNK)):
        yield Chunk([_index(view) for view in batch], [to_plain(view) for view in batch])


def _index(view: SampleView) -> list[Any]:
    """What the filter looks at: words, number of subjects, bucket, heads. Phrases are part of the caption."""
    return [
        f"{view.caption}\n{view.key}",
        len(view.subjects),
        f"{view.bucket:g}",
        sorted({subject.head for subject in view.subjects}),
    ]


def _meanings(info: RunInfo) -> dict[str, str]:
    """What a reason to drop a phrase means, by ``stage reason``."""
    stages = {use.node: use.stage for use in info.steps}
    return {f"{stages.get(part.node, part.node)} {part.reason}": part.meaning for part in info.reasons}


def _csp_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
