"""What an isolation knows of itself after its own death."""

from pathlib import Path

import pytest

from pipeline.actor import WORKER_CRASH, WORKER_HANG, FatalError
from pipeline.journal import Death, Journal


def test_what_was_inside_when_everything_died_counts_as_dead_of_it(tmp_path: Path) -> None:
    path = tmp_path / "000000.json"
    first = Journal(path, "job")
    first.enter("paint", ["a", "b"])
    first.died(WORKER_HANG)
    first.enter("paint", ["a"])
    second = Journal(path, "job")
    assert second.deaths_of("paint", ["a", "b"]) == (Death(node="paint", reason=WORKER_HANG, keys=("a", "b")),)
    assert second.deaths_of("paint", ["a"]) == (Death(node="paint", reason=WORKER_CRASH, keys=("a",)),)
    assert not second.deaths_of("name", ["a"]) and not second.deaths_of("paint", ["b"])
    assert len(Journal(path, "job").deaths_of("paint", ["a"])) == 1


def test_what_came_out_did_not_die(tmp_path: Path) -> None:
    path = tmp_path / "000000.json"
    first = Journal(path, "job")
    first.enter("paint", ["a"])
    first.leave()
    assert not Journal(path, "job").deaths_of("paint", ["a"])


@pytest.mark.parametrize(
    "held", ["[]", "", "{", '{"job": "other", "deaths": [{"node": "paint", "reason": "x", "keys": ["a"]}]}']
)
def test_deaths_in_another_life_of_the_driver_are_not_held_against_anyone(tmp_path: Path, held: str) -> None:
    path = tmp_path / "000000.json"
    path.write_text(held)
    assert not Journal(path, "job").deaths_of("paint", ["a"])


def test_dying_again_and_again_of_nothing_in_particular_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "000000.json"
    for _ in range(4):
        Journal(path, "job")
    with pytest.raises(FatalError, match=r"000000\.json: the isolation of this unit died 4 times in a row"):
        Journal(path, "job")


def test_coming_further_gives_new_tries(tmp_path: Path) -> None:
    path = tmp_path / "000000.json"
    for number in range(9):
        Journal(path, "job").enter("paint", [str(number)])


def test_a_unit_that_is_through_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "isolation" / "000000.json", "job")
    journal.close()
    assert not list((tmp_path / "isolation").iterdir())
