import base64
import re
from pathlib import Path

import pytest
from PIL import Image

from pipeline.ledger import ResumeError
from pipeline.report.drawn import Column, DrawnGrid, Row
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


def picture(path: Path, shade: int) -> Path:
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(path)
    return path


def test_what_models_drew_is_in_the_page_itself(tmp_path: Path) -> None:
    reference, scene = picture(tmp_path / "reference.png", 1), picture(tmp_path / "scene.png", 2)
    columns = (
        Column("One", (picture(tmp_path / "one.png", 3),), ("python -m training fit --out 'a b'",)),
        Column("Two", (picture(tmp_path / "two.png", 4),), ()),
    )
    page = tmp_path / "page.html"

    write_overview(page, [], DrawnGrid((Row(("a ", reference, "<star>"), scene),), columns))

    text = page.read_text()
    shown = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', text)]
    assert shown == [(tmp_path / f"{name}.png").read_bytes() for name in ("reference", "scene", "one", "two")]
    assert "&lt;star&gt;" in text and "python -m training fit --out &#39;a b&#39;" in text
    assert text.index("<th>One</th>") < text.index("<th>Two</th>")


def test_a_model_that_drew_too_little_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="One drew 0 pictures for 1 prompts"):
        DrawnGrid((Row(("a",), tmp_path / "scene.png"),), (Column("One", (), ()),))
