from pathlib import Path

from stages.fetch import Fetch
from stages.web.reasons import REASONS

PAGE = Path(__file__).parents[3] / "docs" / "fetch.md"


def test_the_docs_have_the_table_of_reasons() -> None:
    rows = [
        f"| `{name}` | {reason.kind} | {'yes' if reason.may_pass else 'no'} | {reason.meaning} |"
        for name, reason in REASONS.items()
    ]
    found = [line for line in PAGE.read_text().splitlines() if line.startswith("| `") and line.count("|") == 5]
    assert found == rows


def test_the_stage_declares_exactly_these() -> None:
    assert list(Fetch.reasons) == list(REASONS)
