"""What the stages decide does not change by accident."""

from pathlib import Path

from tests.drawn import run_coco
from tests.golden.summary import EXPECTED, summary


def test_the_shipped_coco_manifest_decides_as_before(tmp_path: Path) -> None:
    assert summary(run_coco(tmp_path)) == EXPECTED.read_text(), (
        "the stages decide otherwise than before; if that is meant, raise the version of each stage whose output "
        "changed, run python -m tests.golden.regenerate and commit"
    )
