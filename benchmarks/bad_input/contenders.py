"""Runs Inlay and img2dataset on the same rows, and reads what each kept and what it rejected for."""

import io
import json
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import yaml
from PIL import Image

from benchmarks.bad_input.process import Ended, watch

_ROOT = Path(__file__).parents[2]
_LIMIT_S, _TIMEOUT_S = 120, 5
"""Of a whole job, and of one URL."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row.

    Attributes:
        reason: Why it was rejected; empty if it was kept, once for each time.
        pixels: What was kept.
        caption: What was kept with it.
    """

    reason: str = ""
    pixels: npt.NDArray[np.uint8] | None = None
    caption: str | None = None


_SAID = 80
"""Characters that are kept of what img2dataset says of a row."""

Outcomes = Mapping[int, list[Outcome]]
"""By row; a row that is in neither list was lost."""

Run = Callable[[Path, Path, Path], tuple[Ended, Outcomes]]
"""Runs on a Parquet file into an output folder, with a log."""


def _manifest(rows: Path) -> str:
    chain = [
        {"id": "fetch", "stage": "fetch", "batch_size": 256, "workers": 1, "params": _FETCH},
        {"id": "decode", "stage": "decode", "workers": 1, "params": {"max_side": None}},
        {"id": "dedup", "stage": "dedup", "workers": 1},
        {"id": "caption", "stage": "caption", "workers": 1},
    ]
    nodes = [node | {"needs": [before["id"]]} for before, node in pairwise(chain)]
    source = {"kind": "parquet", "paths": [str(rows)], "unit_rows": 256}
    return yaml.safe_dump({"name": "bad_input", "source": source, "nodes": [chain[0], *nodes]})


_FETCH = {"timeout_s": _TIMEOUT_S, "max_bytes": 32_000_000, "allow_hosts": ["127.0.0.1"]}


def inlay(*options: str) -> Run:
    """Inlay by its command line; ``--local`` is without Ray."""

    def run(rows: Path, out: Path, log: Path) -> tuple[Ended, Outcomes]:
        manifest = rows.with_suffix(".yaml")
        manifest.write_text(_manifest(rows))
        command = [sys.executable, "-m", "pipeline", "run", str(manifest), "--out", str(out), *options]
        ended = watch(command, _ROOT, log, _LIMIT_S)
        return ended, _gather(_inlay_outcomes(out))

    return run


def _inlay_outcomes(out: Path) -> Iterator[tuple[int, Outcome]]:
    for tar in sorted(out.glob("shards/*.tar")):
        for said, picture in _samples(tar):
            yield said["row"], Outcome(pixels=picture, caption=said["caption"])
    for table in sorted(out.glob("rejects/*.parquet")):
        for row in pq.read_table(table, columns=["row", "reason"]).to_pylist():
            yield row["row"], Outcome(row["reason"])


def img2dataset(environment: Path) -> Run:
    """img2dataset, installed in a virtual environment, with the same bounds.

    Each row is a shard of its own, so that one that hangs takes no other with it.
    """

    def run(rows: Path, out: Path, log: Path) -> tuple[Ended, Outcomes]:
        options = {
            "url_list": rows,
            "input_format": "parquet",
            "url_col": "URL",
            "caption_col": "TEXT",
            "save_additional_columns": '["row"]',
            "output_format": "webdataset",
            "output_folder": out,
            "resize_mode": "no",
            "encode_quality": 95,
            "min_image_size": 128,
            "max_aspect_ratio": 4,
            "processes_count": 8,
            "thread_count": 1,
            "timeout": _TIMEOUT_S,
            "retries": 2,
            "number_sample_per_shard": 1,
            "enable_wandb": False,
            "disallowed_header_directives": '["noai","noimageai","noindex","noimageindex"]',
        }
        command = [str(environment / "bin" / "img2dataset"), *(f"--{name}={value}" for name, value in options.items())]
        ended = watch(command, rows.parent, log, _LIMIT_S, NO_ALBUMENTATIONS_UPDATE="1", WANDB_MODE="disabled")
        return ended, _gather(_img2dataset_outcomes(out))

    return run


def _img2dataset_outcomes(out: Path) -> Iterator[tuple[int, Outcome]]:
    for tar in sorted(out.glob("*.tar")):
        for said, picture in _samples(tar):
            yield said["row"], Outcome(pixels=picture, caption=said["caption"])
    for table in sorted(out.glob("*.parquet")):
        if not table.stat().st_size:  # it was killed while writing this one
            continue
        for row in pq.read_table(table, columns=["row", "status", "error_message"]).to_pylist():
            if row["status"] != "success":
                yield row["row"], Outcome(" ".join(f"{row['status']}: {row['error_message']}".split())[:_SAID])


def _samples(tar: Path) -> Iterator[tuple[dict[str, Any], npt.NDArray[np.uint8] | None]]:
    """The JSON and the picture of each sample; a tar that was cut off gives those before the cut."""
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(tar) as file:
            for member in file:
                content = file.extractfile(member)
                members[member.name] = content.read() if content else b""
    except tarfile.ReadError:
        pass
    for name in sorted(members):
        picture = members.get(name.removesuffix("json") + "jpg")
        if name.endswith(".json") and picture:
            yield json.loads(members[name]), _pixels(picture)


def _pixels(picture: bytes) -> npt.NDArray[np.uint8] | None:
    """None of a picture that is too large to look at."""
    try:
        return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    except Image.DecompressionBombError:
        return None


def _gather(found: Iterator[tuple[int, Outcome]]) -> Outcomes:
    outcomes: dict[int, list[Outcome]] = {}
    for row, outcome in found:
        outcomes.setdefault(row, []).append(outcome)
    return outcomes
