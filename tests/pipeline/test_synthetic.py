"""Pictures that are drawn: from two lists to shards, in this process, by tiny networks."""

import os
import shutil
from pathlib import Path

import pytest
import webdataset

from manifests.dag import parse_manifest
from manifests.record import Record
from manifests.shard import record_from_members
from pipeline.ledger import Layout
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import execute, prepare
from pipeline.verify import verify
from tests.stages.models import tiny_clip, tiny_sdxl

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

MANIFEST = """
name: drawn
source: {{kind: prompts, contents: {root}/contents.txt, styles: {root}/styles.txt, styles_per_content: 2, unit_rows: 3}}
nodes:
  - {{id: draw, stage: draw, params: {{model: {root}/sdxl, width: 64, height: 64, steps: 1, images_per_call: 2}}}}
  - {{id: decode, stage: decode, needs: [draw], params: {{min_side: 64}}}}
  - {{id: caption, stage: caption, needs: [decode]}}
  - {{id: pick, stage: score, needs: [caption], params: {{metric: pick, model: {root}/clip, min: -100}}}}
"""


def run(root: Path) -> Layout:
    with open(os.devnull, "w") as nowhere:
        manifest = parse_manifest(MANIFEST.format(root=root), "drawn.yaml")
        execute(prepare(manifest), root / "out", run_local, LineProgress(nowhere))
    return Layout(root / "out")


def records(layout: Layout) -> list[Record]:
    found = []
    for name in layout.committed():
        for sample in webdataset.WebDataset(str(layout.tar(name)), shardshuffle=False):
            found.append(record_from_members({k: v for k, v in sample.items() if not k.startswith("__")}))
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drawn")
    (path / "contents.txt").write_text("a cat\na dog\ntwo houses\n")
    (path / "styles.txt").write_text("oil painting\nphoto\npixel art\n")
    for name, write in (("sdxl", tiny_sdxl.folder), ("clip", tiny_clip.hf_folder)):
        (path / name).mkdir()
        write(path / name)
    return path


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_drawn_pictures_carry_prompt_seed_models_and_score(root: Path) -> None:
    layout = run(root)
    assert verify(layout) == ([], 2, 2)
    found = records(layout)
    assert len(found) == 6
    for record in found:
        assert record.synthesis and record.caption == record.alt_text == record.synthesis.prompt
        assert record.image and (record.image.width, record.image.height) == (64, 64)
        (score,) = record.scores
        assert score.name == "pick" and score.model.name == f"{root}/clip"
        assert [step.stage for step in record.steps] == ["draw", "decode", "caption", "score"]
        assert record.steps[0].models[0].name == f"{root}/sdxl" and record.steps[0].models[0].revision
    pairs = {(record.synthesis.content, record.synthesis.style) for record in found if record.synthesis}
    assert len(pairs) == 6 and len({record.sha256 for record in found}) == 6


def test_a_lost_unit_is_drawn_again_to_the_same_bytes(root: Path) -> None:
    layout = run(root)
    first, last = layout.committed()
    before = layout.tar(last).read_bytes()
    for folder in ("shards", "units", "rejects"):
        for file in (root / "out" / folder).glob(f"{last}*"):
            file.unlink()
    assert list(run(root).committed()) == [first, last]
    assert layout.tar(last).read_bytes() == before
    shutil.rmtree(root / "out")
