"""A stage is added by one class and one entry."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from pydantic import Field

from manifests.dag import parse_manifest
from manifests.record import Picture
from manifests.tar import read_samples
from pipeline.ledger import Layout
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import execute, prepare
from stages import STAGES
from stages.base import Context, Drop, Fail, Params, Stage
from stages.pixels import read_picture, write_jpeg


@dataclass(frozen=True, slots=True, kw_only=True)
class VividIn:
    image: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class VividOut:
    pass


class VividParams(Params):
    min_saturation: float = Field(0.2, ge=0, le=1, description="Least saturation of the mean colour.")


class Vivid(Stage[VividIn, VividOut]):
    """Keep pictures with colour in them."""

    In, Out, Params = VividIn, VividOut, VividParams
    reasons: ClassVar = {"grey": "The mean saturation is below `min_saturation`."}

    def __init__(self, params: VividParams) -> None:
        self.params = params

    @classmethod
    def load(cls, params: VividParams, context: Context) -> "Vivid":
        return cls(params)

    def process(self, batch: Sequence[VividIn]) -> list[VividOut | Drop | Fail]:
        return [self._judge(record) for record in batch]

    def _judge(self, record: VividIn) -> VividOut | Drop:
        red, green, blue = read_picture(record.image).mean(axis=(0, 1)) / 255
        saturation = colorsys.rgb_to_hsv(red, green, blue)[1]
        return VividOut() if saturation >= self.params.min_saturation else Drop("grey", f"{saturation:.2f}")


MANIFEST = """
name: vivid
source: {{kind: folder, path: {folder}}}
nodes:
- {{id: decode, stage: decode, params: {{min_side: 16}}}}
- {{id: caption, stage: caption}}
- {{id: vivid, stage: vivid, needs: [decode], params: {{min_saturation: 0.5}}}}
"""


def test_a_toy_stage_filters_as_its_parameter_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STAGES, "vivid", Vivid)  # type: ignore[misc]
    noise = np.random.default_rng(0).integers(0, 60, (64, 64, 3), np.uint8)
    pictures = {"red": noise + np.array([190, 0, 0], np.uint8), "grey": noise + np.uint8(90)}
    (tmp_path / "pictures").mkdir()
    for name, pixels in pictures.items():
        (tmp_path / "pictures" / f"{name}.jpg").write_bytes(write_jpeg(pixels).data)
        (tmp_path / "pictures" / f"{name}.txt").write_text(f"something {name}")
    file = parse_manifest(MANIFEST.format(folder=tmp_path / "pictures"), "vivid.yaml")
    with (tmp_path / "log").open("w") as log:
        execute(prepare(file), tmp_path / "out", run_local, LineProgress(log))
    layout = Layout(tmp_path / "out")
    (record,) = layout.unit_records()
    assert [(r.kind, r.node, r.reason, r.count) for r in record.rejections] == [("dropped", "vivid", "grey", 1)]
    with layout.tar(record.name).open("rb") as tar:
        assert [b"something red" in members["json"] for _, members in read_samples(tar)] == [True]
