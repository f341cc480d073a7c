import re
from pathlib import Path

import pytest

from pipeline.ledger import ResumeError
from pipeline.report.overview import write_overview
from pipeline.report.page import write_report
from tests.pipeline.report.fixture import synthetic_rows, write_run


def test_the_page_shows_every_run_by_the_report_beside_it(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, [synthetic_rows(count)]).root for name, count in (("one", 4), ("two", 8))]
    for run in runs:
        write_report(run)
    page = tmp_path / "pages" / "both.html"
    write_overview(page, runs)
    text = page.read_text()
    shown = re.findall(r'<iframe src="([^"]+)"', text)
    assert [(page.parent / path).resolve() for path in shown] == [run / "report" / "index.html" for run in runs]
    assert "4 kept" in text and "8 kept" in text


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResumeError):
        write_overview(tmp_path / "page.html", [tmp_path / "nothing"])
