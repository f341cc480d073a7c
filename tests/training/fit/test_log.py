"""Where figures go."""

import importlib
import io
import json
import math
import sys
from pathlib import Path

import pytest
from rich.console import Console

from training.fit import track
from training.fit.log import JsonLines, opened_log, read_log
from training.fit.track import Start


def start(folder: Path, step: int = 0) -> Start:
    return Start(folder=folder, name="toy", step=step, steps=40, recipe={"name": "toy"})


def test_a_later_attempt_supersedes_the_steps_that_it_came_past_again(tmp_path: Path) -> None:
    first = JsonLines(tmp_path)
    for step in (10, 20, 30):
        first.step(step, {"loss": float(step)})
    JsonLines(tmp_path).step(20, {"loss": 0.5})
    assert [(line.step, line.attempt, line.values["loss"]) for line in read_log(tmp_path)] == [
        (10, 1, 10),
        (20, 2, 0.5),
    ]
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 4


def test_a_line_that_a_crash_cut_is_left_out_and_spoils_no_other(tmp_path: Path) -> None:
    JsonLines(tmp_path).step(10, {"loss": 1.0})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 20, "att')
    JsonLines(tmp_path).step(20, {"loss": 2.0})
    assert [(line.step, line.attempt) for line in read_log(tmp_path)] == [(10, 1), (20, 2)]


def test_what_is_no_number_is_valid_json(tmp_path: Path) -> None:
    JsonLines(tmp_path).step(1, {"loss": math.nan, "grad_norm": math.inf})
    text = (tmp_path / "log.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 1, "attempt": 1, "loss": None, "grad_norm": None}
    assert math.isnan(read_log(tmp_path)[0].values["loss"])


def test_there_is_no_log_of_a_run_that_did_not_begin(tmp_path: Path) -> None:
    assert read_log(tmp_path) == ()


def test_tensorboard_has_the_figures_and_forgets_steps_that_come_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    quiet = Console(file=io.StringIO())
    for begin, steps in ((0, (10, 20, 30)), (10, (20,))):
        with opened_log(start(tmp_path, begin), ("tensorboard",), quiet) as log:
            for step in steps:
                log.step(step, {"loss": step + begin})
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [(each.step, each.value) for each in found] == [(10, 10), (20, 30)]


def test_a_tracker_that_is_not_installed_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"pip install 'inlay\[tracking\]'"), opened_log(start(tmp_path), ("wandb",)):
        pass


def test_a_run_without_trackers_needs_none_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wandb", "tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    importlib.reload(track)
    with opened_log(start(tmp_path), (), Console(file=io.StringIO())) as log:
        log.step(1, {"loss": 1.0})
    assert len(read_log(tmp_path)) == 1


def test_where_there_is_no_terminal_the_last_step_is_a_line_of_words(tmp_path: Path) -> None:
    sink = io.StringIO()
    with opened_log(start(tmp_path), (), Console(file=sink, width=40)) as log:
        log.step(1, {"loss": 2.0})
        log.step(2, {"loss": 1.0})
        log.step(40, {"loss": 0.25, "samples_per_s": 1234.5, "data_wait": 0.004, "eps": 3.0})
    assert sink.getvalue().splitlines() == [
        "toy: step 1 of 40; loss 2",
        "toy: step 40 of 40; loss 0.25, 1,234.5 samples/s, 0.4% data wait",
    ]


def test_a_terminal_has_a_bar(tmp_path: Path) -> None:
    sink = io.StringIO()
    with opened_log(start(tmp_path), (), Console(file=sink, width=120, force_terminal=True)) as log:
        log.step(10, {"loss": 0.25})
    assert "10/40" in sink.getvalue()
    assert "loss 0.25" in sink.getvalue()
