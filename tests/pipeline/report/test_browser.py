import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from manifests.record import Record, Row
from pipeline.report.page import write_report
from tests.pipeline.report.fixture import rejected, synthetic_record, synthetic_rows, write_run

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM.exists() and CHROMEDRIVER.exists()),
        reason="no /usr/bin/chromium and /usr/bin/chromedriver; install Debian's chromium and chromium-driver",
    ),
]

HOSTILE = (
    "</script><script>window.pwned = 1</script><img src=x onerror=window.pwned=1> \u202ertl\u202c \U0001f680 {{1}}"
)


@dataclass(frozen=True)
class Browser:
    """Headless Chromium, with the few things that the tests do."""

    driver: Any

    def open(self, page: Path, width: int = 1400, scheme: str = "light") -> None:
        """Open a page from disk in a window of this width whose owner likes light or dark."""
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        liked = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", liked)
        self.driver.get(page.as_uri())

    def run(self, script: str, *arguments: object) -> Any:
        """The value of a script that says ``return``."""
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> Sequence[Any]:
        """The elements that a selector finds."""
        return self.driver.find_elements("css selector", selector)  # type: ignore[no-any-return]

    def texts(self, selector: str) -> list[str]:
        """The visible text of the elements that a selector finds."""
        return [element.text for element in self.all(selector)]

    def filter(self, **values: str) -> None:
        """Set fields of the filter as typing does."""
        for name, value in values.items():
            self.run(
                "const [name, value] = arguments; const field = document.getElementById('filter').elements[name];"
                "field.value = value; field.dispatchEvent(new Event('input', {bubbles: true}))",
                name,
                value,
            )

    def keys(self) -> list[str]:
        """Keys of the samples on all pages of the filter's result."""
        found = self.texts("#page .key")
        while (following := self.all(".pager button")[2]).is_enabled():
            following.click()
            found += self.texts("#page .key")
        return found

    def shown(self) -> list[str]:
        """Members of the first sample whose layer is in view."""
        layers = self.all(".sample:first-child .layer")
        return [
            layer.get_attribute("data-member")
            for layer in layers
            if layer.value_of_css_property("visibility") == "visible"
        ]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    yield Browser(driver)
    driver.quit()


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes the report of a run with these units."""
    return lambda *units, samples=1000: write_report(write_run(tmp_path, units).root, samples)


def _kept(rows: Sequence[Row]) -> list[Record]:
    return [row.record for row in rows if row.verdict is None]


def test_the_page_asks_for_nothing_and_complains_of_nothing(browser: Browser, report: Callable[..., Path]) -> None:
    browser.open(report(synthetic_rows(30)))
    browser.keys()
    fetched = browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in fetched if not name.startswith("data:")] == []
    assert browser.driver.get_log("browser") == []
    broken = "return [...document.images].filter((image) => image.complete && !image.naturalWidth).length"
    assert browser.run(broken) == 0


@pytest.mark.parametrize("width", [1400, 500])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows(browser: Browser, report: Callable[..., Path], width: int, scheme: str) -> None:
    long = synthetic_record(4, caption="x" * 300)
    rows = [*synthetic_rows(12), Row(record=long), rejected(99, "failed", "fetch", "http_404", "y" * 300)]
    browser.open(report(rows), width, scheme)
    browser.run("for (const details of document.querySelectorAll('details')) details.open = true")
    time.sleep(0.1)
    assert browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    outside = (
        "return [...document.querySelectorAll('main *')].filter((node) => !node.closest('.tip, .scroll, svg') &&"
        "node.getBoundingClientRect().right > innerWidth).map((node) => node.outerHTML.slice(0, 200))"
    )
    assert browser.run(outside) == []


def test_light_and_dark_follow_the_reader_and_the_button(browser: Browser, report: Callable[..., Path]) -> None:
    page = report(synthetic_rows(1))
    paper = "return getComputedStyle(document.body).backgroundColor"
    browser.open(page, scheme="light")
    light = browser.run(paper)
    browser.open(page, scheme="dark")
    dark = browser.run(paper)
    assert light != dark
    colours = []
    for _ in range(2):
        browser.all("#theme")[0].click()
        colours.append(browser.run(paper))
    assert colours == [light, dark]


def test_a_picture_stands_where_its_insertion_says(browser: Browser, report: Callable[..., Path]) -> None:
    records = [synthetic_record(1, insertion) for insertion in ("replace", "before", "feature", "side")]
    browser.open(report([Row(record=replace(record, key=f"k{i}")) for i, record in enumerate(records)]))
    read = (
        "const read = (node) => node.nodeType === 3 ? node.data : node.matches('.reference') ? '[]' :"
        "[...node.childNodes].map(read).join('');"
        "return [...document.querySelectorAll('.sample')].map((card) =>"
        "[...card.querySelectorAll('.prompt, .beside')].map(read).join(' | '))"
    )
    assert browser.run(read) == [
        "picture 1 shows [] on the ground",
        "picture 1 shows [] blue square on the ground",
        "picture 1 shows []blue square on the ground",
        "picture 1 shows blue square on the ground | []blue square",
    ]


def test_a_crop_shows_its_box_and_mask_on_the_picture(browser: Browser, report: Callable[..., Path]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.open(report([Row(record=synthetic_record(3))]))
    first, second = browser.all(".prompt .reference")[:2]
    canny = browser.all(".more .reference")[0]
    assert browser.shown() == []
    ActionChains(browser.driver).move_to_element(first).perform()
    assert browser.shown() == ["subject0"]
    assert browser.texts(".note") == ["yellow star · 0.56 · 27 × 35 px"]
    first.click()
    ActionChains(browser.driver).move_to_element(second).perform()
    assert browser.shown() == ["subject1"]
    ActionChains(browser.driver).move_to_element(browser.all("h2")[0]).perform()
    assert browser.shown() == ["subject0"], "a clicked crop stays in view"
    first.send_keys(Keys.ENTER)
    canny.send_keys(Keys.SPACE)
    assert browser.shown() == ["canny"]
    assert canny.get_attribute("aria-pressed") == "true"
    assert browser.all(".layer[data-member=subject0] .mask")[0].get_attribute("d").startswith("M")
    assert browser.all(".layer[data-member=subject0] .box")[0].get_attribute("width") != "0"


def test_details_tell_where_a_sample_comes_from(browser: Browser, report: Callable[..., Path]) -> None:
    record = synthetic_record(1)
    browser.open(report([Row(record=record)]))
    browser.all(".sample summary")[0].click()
    time.sleep(0.1)
    facts = dict(zip(browser.texts(".sample dt"), browser.texts(".sample dd"), strict=True))
    assert facts["prompt"] == "picture 1 shows <subject0> on the ground"
    assert (facts["url"], facts["sha256"], facts["key"]) == (record.url, record.sha256, record.key)
    assert facts["original"] == "960 × 640 px"
    assert facts["source"] == "part-0.parquet, row 1"
    assert facts["no subject"] == "ground: the head noun names a place or a part, not a thing; relational says which"
    assert "relational" in browser.texts(".sample dd code")
    assert browser.texts(".lost li") == ["ground phrases: relational"]
    assert "`" not in browser.all(".lost li")[0].get_attribute("title")


def test_pages_hold_every_sample_once(browser: Browser, report: Callable[..., Path]) -> None:
    rows = synthetic_rows(47)
    browser.open(report(rows))
    assert browser.texts(".pager output")[0] == "1–20 of 47"
    assert browser.keys() == [record.key for record in _kept(rows)]
    assert len(browser.all(".sample")) == 7
    browser.all(".pager button")[0].click()
    assert browser.texts(".pager output")[0] == "1–20 of 47"


def test_the_filter_finds_what_it_says(browser: Browser, report: Callable[..., Path]) -> None:
    rows = synthetic_rows(90)
    records = _kept(rows)
    browser.open(report(rows))
    browser.filter(text="RED  beside")
    assert browser.keys() == [r.key for r in records if "red" in r.caption and "beside" in r.caption]  # type: ignore[operator]
    browser.filter(text="", subjects="2", head="star")
    assert browser.keys() == [r.key for r in records if len(r.subjects or ()) == 2 and "star" in _heads(r)]
    browser.filter(subjects="", head="", bucket="1.5", text=records[31].key)
    assert browser.keys() == [records[31].key]
    browser.filter(text="no such words")
    assert browser.keys() == []
    browser.all("#page button")[0].click()
    time.sleep(0.1)
    assert len(browser.keys()) == 90
    browser.all("button[data-filter=head][value=heart]")[0].click()
    time.sleep(0.1)
    assert browser.keys() == [r.key for r in records if "heart" in _heads(r)]


def _heads(record: Record) -> set[str]:
    return {subject.head for subject in record.subjects or ()}


def test_hostile_words_are_shown_and_do_nothing(browser: Browser, report: Callable[..., Path]) -> None:
    record = replace(synthetic_record(0, caption=HOSTILE), url="javascript:window.pwned=1")
    browser.open(report([Row(record=record), rejected(9, "failed", "fetch", "http_404", HOSTILE)]))
    browser.run("for (const details of document.querySelectorAll('details')) details.open = true")
    time.sleep(0.2)
    text = "return document.querySelector(arguments[0]).textContent"
    assert browser.run(text, ".prompt") == HOSTILE
    assert browser.run(text, ".message") == HOSTILE
    assert browser.all(".sample a") == []
    browser.filter(text="onerror")
    assert browser.keys() == [record.key]
    assert browser.run("return window.pwned === undefined")
    assert browser.driver.get_log("browser") == []


def test_empty_runs_open_without_a_complaint(browser: Browser, report: Callable[..., Path]) -> None:
    for units in ([], [[rejected(1, "failed", "fetch", "http_404")]]):
        browser.open(report(*units))
        assert browser.all(".empty")
        assert browser.driver.get_log("browser") == []


@pytest.mark.slow
def test_ten_thousand_samples_stay_quick(browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row(record=replace(synthetic_record(number), controls=())) for number in range(10_000)]
    page = write_report(write_run(tmp_path, [rows[i : i + 500] for i in range(0, len(rows), 500)]).root, 10_000)
    start = time.perf_counter()
    browser.open(page)
    loaded = time.perf_counter() - start
    times = []
    for values in ({"text": "red"}, {"text": "red star"}, {"head": "heart"}, {"subjects": "3"}, {"text": ""}):
        times.append(browser.run(_TIMED_FILTER, *next(iter(values.items()))))
    expected = sum(len(row.record.subjects or ()) == 3 and "heart" in _heads(row.record) for row in rows)
    assert browser.texts(".pager output")[0] == f"1–20 of {expected:,} matching, of 10,000"
    browser.all(".pager button")[3].click()
    assert browser.texts("#page .key")[-1] == next(
        row.record.key
        for row in reversed(rows)
        if "heart" in _heads(row.record) and len(row.record.subjects or ()) == 3
    )
    assert browser.run("return document.querySelectorAll('.sample').length") <= 20
    with capsys.disabled():
        print(
            f"\n10,000 samples: {page.stat().st_size / 1e6:.1f} MB, opened in {loaded:.2f} s, filtered and laid out "
            f"in {', '.join(f'{milliseconds:.0f}' for milliseconds in times)} ms"
        )


_TIMED_FILTER = """
const [name, value] = arguments;
const field = document.getElementById("filter").elements[name];
field.value = value;
const start = performance.now();
field.dispatchEvent(new Event("input", { bubbles: true }));
document.getElementById("page").getBoundingClientRect();
return performance.now() - start;
"""
