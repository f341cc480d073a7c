"""A page of held-out prompts: their references, their text, the true picture, and what was drawn."""

import tarfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from stages.pixels import Pixels
from training.fit.grid import Row, write_grid
from training.stream.tensors import BatchTensors

ROWS = 8


def write_sheet(path: Path, tensors: BatchTensors, drawn: npt.NDArray[np.uint8], folder: Path) -> None:
    """Write the first rows of a batch as PNG; references are the crops that the shards in ``folder`` hold."""
    keys = tensors.batch.keys[:ROWS]
    crops = _crops(folder, keys)
    rows = [
        Row(
            caption=tensors.batch.prompts[number].caption,
            references=crops[key],
            target=tensors.images[number].cpu().numpy(),
            sample=drawn[number],
        )
        for number, key in enumerate(keys)
    ]
    write_grid(rows, path)


def _crops(folder: Path, keys: Sequence[str]) -> dict[str, tuple[Pixels, ...]]:
    """The subjects' crops of some samples, by key, in order."""
    found: dict[str, list[Pixels]] = {key: [] for key in keys}
    for path in sorted((folder / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, rest = member.name.partition(".")
                if key in found and rest.startswith("subject") and rest.endswith(".jpg"):
                    found[key].append(_decoded(tar, member))
    return {key: tuple(crops) for key, crops in found.items()}


def _decoded(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Pixels:
    file = tar.extractfile(member)
    assert file is not None
    return np.asarray(cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)
