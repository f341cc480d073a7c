"""A few rows of a manifest, run in this process to see what they cost."""

import tempfile
from pathlib import Path

from manifests.dag import ManifestFile
from manifests.shard import UnitRecord
from pipeline.ledger import Layout
from pipeline.local import run_local
from pipeline.progress import Progress
from pipeline.run import execute, prepare

_UNITS = 16
"""Units that a probe is cut into at least, if it has the rows: how much they differ says how sure it is."""


def probe(file: ManifestFile, rows: int, progress: Progress) -> list[UnitRecord]:
    """The units of the first rows, run into a folder that is then removed; without a GPU here, all on the CPU.

    Raises:
        ManifestError, SourceError, FatalError: As of a run.
    """
    with tempfile.TemporaryDirectory(prefix="inlay-probe-") as folder:
        layout = Layout(Path(folder) / "out")
        execute(prepare(_small(file, rows), limit=rows), layout.root, run_local, progress)
        return list(layout.unit_records())


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
