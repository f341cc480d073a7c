import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from manifests.record import Row
from pipeline.report.page import write_report
from tests.pipeline.report.fixture import rejected, synthetic_record, synthetic_rows, write_run

HOSTILE = (
    "</script><script>window.pwned = 1</script>",
    '"><img src=x onerror="window.pwned = 1"><!--',
    "\u202eright to left\u202c <b>bold</b> & &amp; {{ 7 * 7 }}",
    "new\u2028line \U0001f469\u200d\U0001f680 ]]> \\u003c",
)


class _Page(HTMLParser):
    """Elements of a page in order, the text that people see, and the text of its scripts and styles."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.raw.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            attributes, text = self.raw.pop()
            self.raw.append((attributes, text + data))
        else:
            self.text += re.sub(r"\s+", " ", data)

    def data(self, kind: str) -> list[Any]:
        """What the scripts of a class hold, chunk after chunk."""
        return [part for attributes, text in self.raw if attributes.get("class") == kind for part in json.loads(text)]


def _hostile_rows() -> list[Row]:
    kept = [
        Row(record=replace(synthetic_record(i, "replace", text), url="javascript:window.pwned=1", source_id=text))
        for i, text in enumerate(HOSTILE)
    ]
    rejects = [rejected(50 + i, "failed", "fetch", "http_404", text) for i, text in enumerate(HOSTILE)]
    return kept + [replace(row, record=replace(row.record, alt_text=HOSTILE[0], url=HOSTILE[1])) for row in rejects]


def test_a_page_loads_nothing_and_runs_nothing_but_its_own_script(tmp_path: Path) -> None:
    page = _Page(write_report(write_run(tmp_path, [synthetic_rows(12), _hostile_rows()]).root))
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on") and name != "style", (tag, name)
            if name in ("src", "href"):
                assert value is not None and value.startswith(("data:", "#")), (tag, value)
    (policy,) = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")
    code = [text for attributes, text in page.raw if attributes.get("type") != "application/json"]
    assert len(code) == 2
    for text in code:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    page = _Page(write_report(write_run(tmp_path, [_hostile_rows()]).root))
    assert [sample["caption"] for sample in page.data("chunk")] == list(HOSTILE)
    assert [words.rpartition("\n")[0] for words, *_ in page.data("index")] == list(HOSTILE)
    for attributes, text in page.raw:
        if attributes.get("type") == "application/json":
            assert text.isascii() and "<" not in text
    assert HOSTILE[0] in page.text
    assert not any(tag == "b" and not attributes for tag, attributes in page.elements)


def test_a_parameter_that_a_reason_names_is_set_as_code(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path, [[rejected(1, "dropped", "select", "too_small")]]).root)
    assert "the picture&#39;s shorter side is under <code>min_side</code>" in page.read_text("utf-8")
    assert "`" not in _Page(page).text


def test_a_complete_run_says_so_and_its_sums_are_checked(tmp_path: Path) -> None:
    text = _Page(write_report(write_run(tmp_path, [synthetic_rows(20)]).root)).text
    assert "complete The one unit is committed" in text
    assert "✓ 25 rows = 20 kept + 3 dropped + 2 failed" in text


def test_a_run_that_is_still_going_says_how_far_it_is(tmp_path: Path) -> None:
    text = _Page(write_report(write_run(tmp_path, [synthetic_rows(4)], planned=9).root)).text
    assert "unfinished 1 of 9 units are committed" in text


def test_wrong_sums_are_told_loudly(tmp_path: Path) -> None:
    layout = write_run(tmp_path, [synthetic_rows(4)])
    layout.unit("000000").write_text(json.dumps(json.loads(layout.unit("000000").read_text()) | {"rows": 6}))
    page = _Page(write_report(layout.root))
    assert "The sums are wrong. 6 rows ≠ 4 kept + 0 dropped + 1 failed in unit 0" in page.text
    assert any(attributes.get("role") == "alert" for _, attributes in page.elements)
    assert "✓" not in page.text


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ([], "No unit is committed yet."),
        ([[rejected(1, "failed", "fetch", "http_404")]], "No record was kept; the funnel above says why."),
        ([[Row(record=synthetic_record(1))]], "✓ 1 rows = 1 kept + 0 dropped + 0 failed"),
    ],
)
def test_a_run_may_be_empty_or_lose_all_or_nothing(tmp_path: Path, units: list[list[Row]], message: str) -> None:
    assert message in _Page(write_report(write_run(tmp_path, units, planned=1).root)).text


def test_of_many_samples_some_are_shown_and_the_page_says_so(tmp_path: Path) -> None:
    layout = write_run(tmp_path, [synthetic_rows(30), synthetic_rows(30, first=100)])
    page = _Page(write_report(layout.root, samples=6))
    assert "6 of 60 kept samples, evenly spread over the run." in page.text
    assert [sample["row"] for sample in page.data("chunk")] == [5, 15, 25, 105, 115, 125]
    assert "Over all 60 kept samples." in page.text


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    layout = write_run(tmp_path, [synthetic_rows(9)])
    first = write_report(layout.root).read_bytes()
    assert write_report(layout.root).read_bytes() == first


def test_a_report_that_fails_half_way_leaves_the_old_one_alone(tmp_path: Path) -> None:
    layout = write_run(tmp_path, [synthetic_rows(4), synthetic_rows(4, first=50)])
    before = write_report(layout.root).read_bytes()
    layout.tar("000001").write_bytes(layout.tar("000001").read_bytes()[:2048])
    with pytest.raises(ValueError):
        write_report(layout.root)
    assert layout.report.read_bytes() == before
    assert list(layout.report.parent.iterdir()) == [layout.report]


def test_settings_and_versions_are_told(tmp_path: Path) -> None:
    page = _Page(write_report(write_run(tmp_path, [synthetic_rows(4)]).root))
    for words in ("name: synthetic-shapes", "min_side", "select version 1", "pyarrow", "21.0.0"):
        assert words in page.text
