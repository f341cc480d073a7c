"""Write the golden file anew and show what changed: ``python -m tests.golden.regenerate``.

Commit the change only if it is meant, and raise the ``version`` of each stage whose output changed.
"""

import difflib
import sys
import tempfile
from pathlib import Path

from tests.drawn import run_coco
from tests.golden.summary import EXPECTED, summary

if __name__ == "__main__":
    before = EXPECTED.read_text() if EXPECTED.exists() else ""
    with tempfile.TemporaryDirectory() as folder:
        after = summary(run_coco(Path(folder)))
    EXPECTED.write_text(after)
    sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), after.splitlines(True), "before", "after"))
