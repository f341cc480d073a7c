"""``python -m pipeline plan`` as a user runs it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from pipeline.__main__ import app
from pipeline.forecast.arithmetic import ForecastError
from pipeline.forecast.command import parse_hours, parse_rows, parse_speedups
from pipeline.forecast.table import count, size
from pipeline.ledger import Layout
from stages.pixels import write_jpeg

MANIFEST = """
name: folder
source: {{kind: folder, path: {folder}, unit_rows: 4}}
nodes:
- {{id: decode, stage: decode, params: {{min_side: 50}}}}
- {{id: caption, stage: caption, needs: [decode]}}
- {{id: control, stage: control, needs: [caption], {control}}}
"""
NODES = """
head_node_type: head
available_node_types:
  head: {resources: {CPU: 0}}
  cpu: {resources: {CPU: 16}, max_workers: 2}
  gpu: {resources: {CPU: 16, GPU: 1}}
"""
PRICES = """
currency: EUR
node_hours: {head: 1, cpu: 2, gpu: 10}
storage_gb_month: 0.02
"""

Plan = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pictures, every third too small; a manifest on CPUs that was run, and one that gives a node a GPU."""
    root = tmp_path_factory.mktemp("plan")
    (root / "pictures").mkdir()
    for number in range(48):
        pixels = np.random.default_rng(number).integers(0, 256, (40 if number % 3 == 0 else 64, 64, 3), np.uint8)
        (root / "pictures" / f"{number:02}.jpg").write_bytes(write_jpeg(pixels).data)
        (root / "pictures" / f"{number:02}.txt").write_text(f"number {number}")
    for name, control in (("cpu", ""), ("gpu", "num_gpus: 0.5")):
        (root / f"{name}.yaml").write_text(MANIFEST.format(folder=root / "pictures", control=control))
    (root / "nodes.yaml").write_text(NODES)
    (root / "prices.yaml").write_text(PRICES)
    done = CliRunner().invoke(app, ["run", str(root / "cpu.yaml"), "--out", str(root / "out"), "--local"])
    assert done.exit_code == 0, done.output
    return root


@pytest.fixture
def plan(folder: Path) -> Plan:
    def call(manifest: str, *arguments: object, columns: int = 200) -> Result:
        words = ["plan", folder / f"{manifest}.yaml", "--nodes", folder / "nodes.yaml", *arguments]
        return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": str(columns)})

    return call


def parsed(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    plain: dict[str, Any] = json.loads(result.stdout)
    return plain


def test_a_forecast_from_a_run_scales_what_it_did(folder: Path, plan: Plan) -> None:
    found = parsed(plan("cpu", "--rows", "48e6", "--from", folder / "out", "--json"))
    records = list(Layout(folder / "out").unit_records())
    assert found["forecast"]["kept"] == pytest.approx(32e6)
    assert found["forecast"]["written"] == pytest.approx(1e6 * sum(record.written for record in records))
    for stage in found["forecast"]["stages"]:
        seconds = sum(step.seconds for record in records for step in record.steps if step.node == stage["node"])
        assert stage["hours"] == pytest.approx(seconds * 1e6 / 3600)
    low, high = found["spreads"][0]["rows_out"]["low"], found["spreads"][0]["rows_out"]["high"]
    assert low < 32e6 < high


def test_without_rows_it_is_the_source_as_it_is(folder: Path, plan: Plan) -> None:
    assert parsed(plan("cpu", "--from", folder / "out", "--json"))["forecast"]["rows"] == 48


def test_from_a_run_no_model_need_be_here(folder: Path, plan: Plan) -> None:
    given = (
        (folder / "cpu.yaml")
        .read_text()
        .replace("control, needs", "control, params: {kind: depth, model: nowhere}, needs")
    )
    (folder / "elsewhere.yaml").write_text(given)
    assert parsed(plan("elsewhere", "--from", folder / "out", "--json"))["forecast"]["rows"] == 48
    here = plan("elsewhere")
    assert here.exit_code == 2 and "nowhere" in here.output


def test_money_is_hours_by_price_and_bytes_by_price(folder: Path, plan: Plan) -> None:
    words = ("--rows", "1e9", "--deadline", "10h", "--from", folder / "out", "--prices", folder / "prices.yaml")
    found = parsed(plan("gpu", *words, "--json"))
    machines = {machine["node_type"]: machine["hours"] for machine in found["forecast"]["machines"]}
    assert set(machines) == {"cpu", "gpu", "head"}
    assert found["bill"]["gpu"] == pytest.approx(10 * machines["gpu"]) and found["bill"]["head"] == pytest.approx(10)
    assert found["bill"]["storage"] == pytest.approx(0.02 * found["forecast"]["written"] / 1e9)
    assert found["total"] == pytest.approx(sum(found["bill"].values()))
    assert found["dearest"] == "control"
    cheaper = min(found["changes"], key=lambda change: change["cost"])
    assert cheaper["what"] == "control: twice as fast" and -0.5 < cheaper["cost"] < 0


def test_a_gpu_that_was_not_measured_is_told_until_its_speed_is_stated(folder: Path, plan: Plan) -> None:
    words = ("gpu", "--rows", "1e9", "--from", folder / "out")
    assert "control: measured on a CPU, but the manifest gives it 0.5 GPUs" in plan(*words).stdout
    stated = plan(*words, "--speedup", "control=20")
    assert "measured on a CPU" not in stated.stdout and "taken to be 20 times as fast" in stated.stdout
    slow, fast = (parsed(plan(*words, *more, "--json")) for more in ((), ("--speedup", "control=20")))
    assert fast["forecast"]["stages"][2]["hours"] == pytest.approx(slow["forecast"]["stages"][2]["hours"] / 20)


def test_what_was_measured_with_other_settings_is_told(folder: Path, plan: Plan) -> None:
    text = (folder / "cpu.yaml").read_text()
    (folder / "changed.yaml").write_text(text.replace("min_side: 50", "min_side: 60"))
    notes = parsed(plan("changed", "--from", folder / "out", "--json"))["notes"]
    assert len(notes) == 1
    assert notes[0].startswith("decode: measured with other settings than the manifest's: min_side 50, not 60. ")
    (folder / "changed.yaml").write_text(text.replace("stage: control", "stage: filter"))
    assert "control: measured with other settings than the manifest's: stage control, not filter." in "".join(
        parsed(plan("changed", "--from", folder / "out", "--json"))["notes"]
    )
    assert not parsed(plan("cpu", "--from", folder / "out", "--json"))["notes"]
    assert not parsed(plan("changed", "--probe", 24, "--json"))["notes"]


def test_a_narrow_terminal_loses_no_name_and_no_figure(folder: Path, plan: Plan) -> None:
    words = ("cpu", "--rows", "2e9", "--deadline", "72h", "--from", folder / "out", "--prices", folder / "prices.yaml")
    wide, narrow = (plan(*words, columns=columns).stdout for columns in (200, 80))
    assert max(map(len, narrow.splitlines()[:20])) <= 80
    for name in ("decode", "caption", "control", "cpu", "head", "storage"):
        assert f"│ {name} " in wide and f"│ {name} " in narrow
    figures = set(re.findall(r"[\d,.]+[kMG]?(?:–[\d,.]+[kMG]?)?", wide.partition("network in")[0]))
    assert all(figure in narrow for figure in figures)
    assert "…" not in narrow


def test_limits_below_what_the_deadline_takes_are_told(folder: Path, plan: Plan) -> None:
    said = plan("cpu", "--rows", "1e10", "--deadline", "1h", "--from", folder / "out").stdout
    assert "the manifest allows 64; set workers: [1, " in said
    assert "the cluster file allows 2; raise max_workers" in said
    assert "bottleneck: with the workers that the manifest allows, decode+caption+control" in said


def test_the_deadline_says_what_the_network_must_carry(folder: Path, plan: Plan) -> None:
    words = ("cpu", "--rows", "48e6", "--from", folder / "out")
    written = 1e6 * sum(record.written for record in Layout(folder / "out").unit_records())
    assert (
        f"storage out: {size(written)}, {size(written / (10 * 3600 * 0.8))}/s for the deadline"
        in plan(*words, "--deadline", "10h").stdout
    )
    assert "/s for the deadline" not in plan(*words).stdout


def test_a_single_unit_leaves_doubt_about_rows(folder: Path, plan: Plan) -> None:
    (folder / "one.yaml").write_text((folder / "cpu.yaml").read_text().replace("unit_rows: 4", "unit_rows: 48"))
    done = CliRunner().invoke(app, ["run", str(folder / "one.yaml"), "--out", str(folder / "one"), "--local"])
    assert done.exit_code == 0, done.output
    found = parsed(plan("one", "--rows", "1e6", "--from", folder / "one", "--json"))
    interval = found["spreads"][-1]["rows_out"]
    assert found["units_measured"] == 1 and interval["low"] < interval["high"]


def test_a_stage_that_no_record_came_to_is_not_free(folder: Path, plan: Plan) -> None:
    text = (folder / "cpu.yaml").read_text().replace("min_side: 50", "min_side: 5000")
    (folder / "strict.yaml").write_text(text)
    done = plan("strict", "--probe", 8)
    assert done.exit_code == 2
    assert "caption, control: no record came to it, so what it costs is not known" in " ".join(done.output.split())


def test_a_probe_measures_here_and_leaves_nothing(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = parsed(plan("cpu", "--rows", "3e6", "--probe", 24, "--json"))
    assert (found["rows_measured"], found["measured_in"]) == (24, "a probe")
    assert found["units_measured"] >= 16
    assert found["forecast"]["kept"] == pytest.approx(2e6)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--rows", "many"), "--rows 'many' is no count of rows; write 2_000_000_000 or 2e9"),
        (("--deadline", "72"), "--deadline '72' is no duration; write 72h"),
        (("--speedup", "paint=2"), "--speedup names paint; the nodes are decode, caption, control"),
        (("--speedup", "control"), "write NODE=FACTOR"),
        (("--prices", "unfilled"), "node_hours.head: Input should be a valid number"),
        (("--prices", "missing"), "no price for gpu; add it, in EUR"),
        (("--nodes", "none"), "available_node_types: Field required"),
        (("--nodes", "small"), "no node type has room for a worker of"),
        (("--nodes", "gone.yaml"), "gone.yaml: cannot be read: No such file or directory; name a Ray cluster file"),
        (("--probe", "9"), "--from DIR has the costs already: --probe goes without it"),
    ],
)
def test_mistakes_are_told_with_their_remedy(
    folder: Path, plan: Plan, tmp_path: Path, arguments: tuple[str, str], says: str
) -> None:
    files = {
        "unfilled": (Path(__file__).parents[3] / "docs" / "prices.yaml").read_text(),
        "missing": PRICES.replace(", gpu: 10", ""),
        "none": "a: 1",
        "small": "available_node_types: {tiny: {resources: {CPU: 0.5}}}",
    }
    option, value = arguments
    if value in files:
        (tmp_path / value).write_text(files[value])
        value = str(tmp_path / value)
    done = plan("cpu", "--from", folder / "out", option, value)
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert says in " ".join(done.stderr.split())


def test_a_folder_without_a_run_is_named(plan: Plan, tmp_path: Path) -> None:
    done = plan("cpu", "--from", tmp_path)
    assert done.exit_code == 2 and f"{tmp_path} holds no run" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("text", "rows"), [("7", 7), ("2_000_000_000", 2 * 10**9), ("2e9", 2 * 10**9), ("1.5e3", 1500)]
)
def test_rows_may_be_written_as_people_write_them(text: str, rows: int) -> None:
    assert parse_rows(text) == rows


@pytest.mark.parametrize("text", ["", "0", "-5", "1.5", "nan", "inf", "1e99", "two"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(ForecastError, match="no count"):
        parse_rows(text)


@pytest.mark.parametrize(("text", "hours"), [("72h", 72), ("3d", 72), ("90m", 1.5), ("1d12h", 36), ("1.5h", 1.5)])
def test_deadlines_are_durations(text: str, hours: float) -> None:
    assert parse_hours(text) == pytest.approx(hours)


@pytest.mark.parametrize("text", ["", "72", "0h", "-3h", "3 h", "h", "1.2.3h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ForecastError, match="--deadline"):
        parse_hours(text)


@pytest.mark.parametrize("text", ["a", "a=", "a=0", "a=-1", "a=nan", "a=x"])
def test_what_is_no_speed_up_is_refused(text: str) -> None:
    with pytest.raises(ForecastError, match="NODE=FACTOR"):
        parse_speedups([text])


@pytest.mark.parametrize(
    ("number", "says"), [(0, "0"), (0.5, "0.50"), (950, "950"), (999.9, "1.00k"), (12_345, "12.3k"), (2e9, "2.00G")]
)
def test_counts_are_short(number: float, says: str) -> None:
    assert count(number) == says
    assert size(28.3e12) == "28.3 TB"
