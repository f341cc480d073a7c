import io
import json
import math
import sys
from pathlib import Path

import pytest

from tests.training.fit.toy import toy_recipe, toy_settings
from training.fit.fit import run_fit
from training.fit.log import NAME, JsonLines, read_log
from training.fit.progress import shown
from training.fit.tracking import read_trackers


def test_of_a_step_that_was_done_twice_the_last_line_counts(tmp_path: Path) -> None:
    first = JsonLines(tmp_path)
    for step in (1, 2, 3):
        first.step(step, {"loss": float(step)})
    JsonLines(tmp_path).step(2, {"loss": 7.0})
    rows = read_log(tmp_path)
    assert [(row["step"], row["attempt"], row["loss"]) for row in rows] == [(1, 1, 1.0), (2, 2, 7.0)]


def test_a_line_that_was_cut_short_harms_no_other(tmp_path: Path) -> None:
    JsonLines(tmp_path).step(1, {"loss": 1.0})
    with (tmp_path / NAME).open("a") as file:
        file.write('{"step": 2, "atte')
    JsonLines(tmp_path).step(2, {"loss": 2.0})
    assert [(row["step"], row["attempt"]) for row in read_log(tmp_path)] == [(1, 1), (2, 2)]


def test_lines_are_plain_where_there_is_no_terminal() -> None:
    file = io.StringIO()
    with shown(20, file) as log:
        log.step(10, {"loss": 0.25, "lr/0": 1e-4})
        log.step(11, {"cut": 0.0, "loss": 0.25})
        log.step(12, {"cut": 0.5, "loss": 0.25})
    assert file.getvalue() == "step 10/20  loss 0.25\nstep 11/20  loss 0.25\nstep 12/20  loss 0.25  cut 0.5\n"


def test_tensorboard_has_every_figure_of_the_log(data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    run_fit(toy_settings(data, out, toy_recipe(steps=2), track=("tensorboard",)))
    run_fit(toy_settings(data, out, toy_recipe(steps=3), track=("tensorboard",), resume="yes"))
    read = EventAccumulator(str(out / "tensorboard")).Reload()
    rows = read_log(out)
    assert [row["attempt"] for row in rows] == [1, 1, 2]
    for name in rows[0].keys() - {"step", "attempt"}:
        found = [(event.step, event.value) for event in read.Scalars(name)]
        assert found == [(row["step"], pytest.approx(row[name])) for row in rows]


def test_a_tracker_that_is_not_installed_stops_the_run_before_it_begins(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"--track wandb needs the package wandb .*\[tracking\]"):
        run_fit(toy_settings(data, tmp_path / "run", track=("wandb",)))
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_runs_import_no_tracker_unasked(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wandb", "tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    run_fit(toy_settings(data, tmp_path / "run", toy_recipe(steps=1)))
    (line,) = (tmp_path / "run" / NAME).read_text().splitlines()
    assert json.loads(line)["memory_gib"] > 0
    assert "mfu" not in json.loads(line)


def test_trackers_go_by_their_names() -> None:
    assert read_trackers(["wandb", "tensorboard", "wandb"]) == ("tensorboard", "wandb")
    assert read_trackers([]) == ()
    with pytest.raises(ValueError, match="--track mlflow: there are tensorboard and wandb"):
        read_trackers(["mlflow"])


def test_what_is_no_number_is_valid_json_and_read_as_such(tmp_path: Path) -> None:
    JsonLines(tmp_path).step(1, {"loss": math.nan, "grad_norm": math.inf})
    text = (tmp_path / "log.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 1, "attempt": 1, "loss": None, "grad_norm": None}
    assert math.isnan(read_log(tmp_path)[0]["loss"])
