"""What the pages say: examples in Python run as they stand, on a run's folder, lists are complete, days are right."""

import json
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.pipeline.report.fixture import synthetic_rows, write_run


def _example(page: str, first: str) -> str:
    """The indented block of a page that begins with this line."""
    block = re.search(rf"^    {re.escape(first)}\n(?:(?:    .*)?\n)*", Path(page).read_text("utf-8"), re.MULTILINE)
    assert block is not None
    return textwrap.dedent(block[0])


def test_the_page_on_training_lists_every_recipe() -> None:
    from training.recipes import RECIPES

    table = Path("docs/training.md").read_text("utf-8").split("## Recipes")[1].split("Each says")[0]
    assert [name for name in RECIPES if f"`{name}`" not in table] == []


def test_a_job_on_a_ray_of_one_machine_finds_the_python_that_has_the_packages(tmp_path: Path) -> None:
    start = re.search(r"^ +(.*)\.venv/bin/ray start --head", Path("docs/cluster.md").read_text("utf-8"), re.MULTILINE)
    assert start is not None
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o755)
    shell = f"{start[1]} sh -c 'command -v python'"
    found = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert found.strip() == str(python)


@pytest.mark.parametrize("page", sorted(Path("docs").glob("*.md")), ids=str)
def test_a_section_that_dates_figures_has_the_days_of_all_results_it_links(page: Path) -> None:
    for section in page.read_text("utf-8").split("\n## "):
        if days := set(re.findall(r"\b2026-\d\d-\d\d\b", section)):
            linked = {
                Path("docs", link) for link in re.findall(r"\]\((\.\./benchmarks/results/[^)]+\.json)\)", section)
            }
            assert [path.name for path in sorted(linked) if not _days(path) <= days] == []


def _days(results: Path) -> set[str]:
    """The day on which results were measured, if they tell it."""
    told = json.loads(results.read_text("utf-8"))
    return {where["date"] for where in (told, told.get("machine")) if isinstance(where, dict) and "date" in where}


@pytest.mark.parametrize(
    ("page", "first"),
    [
        # webdataset leaves a file open
        pytest.param(
            "README.md",
            "import webdataset",
            marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
        ),
        ("docs/shards.md", "from manifests.shard import record_from_members"),
    ],
)
def test_an_example_reads_the_shards_of_a_run(
    page: str, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = _example(page, first)
    write_run(tmp_path / "out", [synthetic_rows(4)])
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(compile(code, page, "exec"), found)
    assert {"sample", "record"} & found.keys()
