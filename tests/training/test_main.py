import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.training.stream.runs import write_run
from training.__main__ import app


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INLAY_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", units=2, rows=10)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["stream", *map(str, arguments)])


def cut(run: Path) -> None:
    with (run / "shards" / "000001.tar").open("r+b") as file:
        file.truncate(2000)


def test_help_tells_every_exit_code() -> None:
    shown = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    assert "0 done; 1 damage found; 2 an error to correct; 128 + N stopped by signal N." in shown


def test_without_a_mode_it_tells_what_the_data_set_is(run: Path) -> None:
    result = call(run, "--batch-size", 4, "--json")

    plain = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (plain["datasets"][0]["samples"], plain["batch_size"]) == (20, 4)
    assert sum(line["samples"] for line in plain["buckets"]) == 20


def test_verify_passes_what_is_whole_and_exits_with_1_at_damage(run: Path) -> None:
    assert call(run, "--verify", "--decode").exit_code == 0

    cut(run)
    result = call(run, "--verify", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["damage"]["truncated"]["count"] >= 9


def test_show_writes_the_page_and_prints_where_it_is(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.html"

    result = call(run, "--show", 2, "--recipe", "unimo_g", "--base", 64, "--batch-size", 2, "--out", out)

    assert (result.exit_code, result.stdout.strip()) == (0, str(out))
    assert out.read_text().count("<article>") == 4


def test_samples_that_only_lack_what_a_recipe_wants_are_not_called_damaged(run: Path, tmp_path: Path) -> None:
    result = call(run, "--show", 1, "--recipe", "lambda_eclipse", "--out", tmp_path / "sheet.html")

    assert result.exit_code == 2 and "are not what the recipe wants: " in result.output
    assert "{name: bigg, of: [caption], outputs: [states, pooled]}" in result.output
    assert "--verify" not in result.output and "damaged" not in result.output


def test_bench_measures_even_over_damaged_samples(run: Path) -> None:
    call(run)
    cut(run)

    result = call(run, "--bench", "--seconds", 0, "--base", 64, "--batch-size", 2, "--json")

    plain = json.loads(result.stdout)
    assert result.exit_code == 0
    assert plain["samples_per_s"] > 0
    assert plain["damaged"] > 0
    assert plain["hint"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--recipe", "mumuu"), "no recipe 'mumuu'; there are plain"),
        (("--base", "5"), "raise base"),
        (("--verify", "--bench"), "one at a time"),
        (("--decode",), "--decode goes with --verify"),
        (("--verify", "--seconds", "3"), "--seconds goes with --bench"),
        (("--bench", "--out", "x.html"), "--out goes with --show"),
        (("--batch-size", "0"), "batch-size"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(run: Path, arguments: tuple[str, ...], says: str) -> None:
    result = call(run, *arguments)

    assert result.exit_code == 2
    assert says in result.output
    assert "Traceback" not in result.output


def test_a_folder_that_is_empty_or_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    for folder in ("empty", "nowhere"):
        result = call(tmp_path / folder)
        assert result.exit_code == 2
        assert folder in result.output and "Error" not in result.output


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "training", "stream", "--help"], capture_output=True, text=True, check=True
    )

    assert all(option in done.stdout for option in ("--bench", "--show", "--verify"))
