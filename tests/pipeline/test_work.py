import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.commands.console import EXIT_INTERRUPTED
from pipeline.commands.work import finish
from pipeline.run import Outcome


def terminated() -> Outcome:
    os.kill(os.getpid(), signal.SIGTERM)
    raise AssertionError("SIGTERM did not interrupt the work")


def broken() -> Outcome:
    raise OSError("the disk is full")


def test_sigterm_ends_the_work_as_an_interrupt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finish(tmp_path, terminated) == EXIT_INTERRUPTED
    assert "Run the same command again to resume" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("work", [terminated, broken])
def test_what_was_done_on_sigterm_before_the_work_is_done_after_it(tmp_path: Path, work: Callable[[], Outcome]) -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    try:
        try:
            finish(tmp_path, work)
        except OSError as error:
            assert work is broken and "full" in str(error)
        os.kill(os.getpid(), signal.SIGTERM)
        assert told == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
