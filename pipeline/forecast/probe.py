"""A few rows of a manifest, run in this process to see what they cost."""

import math
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from manifests.dag import ManifestFile
from manifests.unit_record import UnitRecord
from pipeline.ledger import Layout
from pipeline.local import run_local
from pipeline.progress import Progress
from pipeline.run import Prepared, execute, prepare
from pipeline.sources.base import Unit

_UNITS = 16
"""Units that a probe is cut into at least, if it has the rows: how much they differ says how sure it is."""


def probe(file: ManifestFile, rows: int, progress: Progress) -> list[UnitRecord]:
    """Units of so many rows from all over the source, run into a folder that is then removed.

    Without a GPU here all is done on the CPU.

    Raises:
        ManifestError, SourceError, FatalError: As of a run.
    """
    with tempfile.TemporaryDirectory(prefix="inlay-probe-") as folder:
        layout = Layout(Path(folder) / "out")
        execute(_spread_out(prepare(_small(file, rows), limit=rows), rows), layout.root, run_local, progress)
        return list(layout.unit_records())


def _spread_out(prepared: Prepared, rows: int) -> Prepared:
    """The same with units from all over its source."""
    unit_rows = max(unit.rows for unit in prepared.units)
    units = tuple(spread([part.rows for part in prepared.source.parts], rows, unit_rows))
    info = replace(prepared.info, units=len(units), rows=sum(unit.rows for unit in units))
    return replace(prepared, units=units, info=info)


def spread(parts: Sequence[int], rows: int, unit_rows: int) -> Iterator[Unit]:
    """Units with so many rows in all, or all there are, with equal gaps between them; always the same.

    Args:
        parts: Rows of each part.
        rows: How many are wanted.
        unit_rows: Largest unit.
    """
    total = sum(parts)
    wanted = min(rows, total)
    count = math.ceil(wanted / unit_rows)
    ends = list(accumulate(parts))
    number = 0
    for place in range(count):
        start = place * wanted // count + place * (total - wanted) // count
        stop = start + (place + 1) * wanted // count - place * wanted // count
        while start < stop:  # a piece for each part that it lies in
            part = bisect_right(ends, start)
            begin = ends[part] - parts[part]
            end = min(stop, ends[part])
            yield Unit(number, part, start - begin, end - begin)
            start, number = end, number + 1


def _small(file: ManifestFile, rows: int) -> ManifestFile:
    """The manifest as it can be probed here; its text is left as it is, so that mistakes are shown in their place."""
    manifest = file.manifest
    unit_rows = min(manifest.source.unit_rows, max(1, rows // _UNITS))
    source = manifest.source.model_copy(update={"unit_rows": unit_rows})
    nodes = manifest.nodes
    if not has_gpu(file):
        nodes = [node.model_copy(update={"num_gpus": 0.0}) for node in nodes]
    return ManifestFile(file.name, file.text, manifest.model_copy(update={"source": source, "nodes": nodes}))


def has_gpu(file: ManifestFile) -> bool:
    """Whether nodes that ask for a GPU get one on this machine."""
    if not any(node.num_gpus for node in file.manifest.nodes):
        return False
    import torch

    return torch.cuda.is_available()
