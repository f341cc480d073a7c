from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.ledger import Layout
from pipeline.report.collect import collect
from pipeline.report.page import write_report
from pipeline.report.published import PAPERS, compare
from pipeline.report.survey import Survey
from tests.pipeline.report.fixture import synthetic_rows, write_run


def written(tmp_path: Path, paper: str | None) -> Layout:
    layout = write_run(tmp_path, [synthetic_rows(20, insertion="replace")])
    layout.run.write_text(replace(layout.read_run(), paper=paper).to_json())
    return layout


def figures(paper: str, survey: Survey) -> dict[str, tuple[str, str]]:
    return {line.label: (line.paper, line.ours) for line in compare(paper, survey).lines}


def test_lambda_eclipse_counts_images_by_their_subjects(tmp_path: Path) -> None:
    survey = collect(written(tmp_path, "lambda_eclipse")).survey
    lines = figures("lambda_eclipse", survey)
    assert lines["images"] == ("1,990,123", "20")
    for count in range(1, 5):
        label = f"with {count} subject{'s' * (count > 1)}"
        assert lines[label][1].split()[0] == str(survey.subjects[count])
    assert lines["unique subjects"] == ("30,358", str(len(survey.heads)))


def test_unimo_g_counts_entities_and_text_of_prompts(tmp_path: Path) -> None:
    layout = written(tmp_path, "unimo_g")
    records = [row.record for row in synthetic_rows(20, insertion="replace") if row.verdict is None]
    entities = [len(record.prompt.images) for record in records if record.prompt]
    lines = figures("unimo_g", collect(layout).survey)
    assert lines["entities a prompt, mean"] == ("1.67", f"{sum(entities) / len(entities):.2f}")
    shares = [float(ours.split()[0]) for label, (_, ours) in lines.items() if label.startswith("with")]
    assert sum(shares) == pytest.approx(100, abs=0.3)


@pytest.mark.parametrize("paper", sorted(PAPERS))
def test_the_paper_stands_beside_the_run_on_the_page_and_on_the_terminal(paper: str, tmp_path: Path) -> None:
    layout = written(tmp_path, paper)
    summary = collect(layout)
    assert summary.comparison
    printed = CliRunner().invoke(app, ["report", str(layout.root)]).stdout
    page = write_report(layout.root).read_text()
    assert "Beside the paper" in page
    for line in summary.comparison.lines:
        assert line.paper in page and line.label in printed


def test_a_run_of_no_paper_is_compared_with_none(tmp_path: Path) -> None:
    layout = written(tmp_path, None)
    assert collect(layout).comparison is None
    assert "Beside the paper" not in write_report(layout.root).read_text()


def test_an_empty_survey_has_figures_too() -> None:
    for paper in PAPERS:
        assert compare(paper, Survey()).lines
