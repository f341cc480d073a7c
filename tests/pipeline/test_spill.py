"""What Ray spilled, from looks at a sum over machines that come and go."""

from pipeline.spill import Spilled


def test_what_was_spilled_before_the_first_look_does_not_count_nor_does_a_look_in_vain() -> None:
    spilled = Spilled()
    for now in (None, 500, None, 700, 750):
        spilled.saw(now)
    assert spilled.bytes == 250


def test_a_machine_that_is_lost_takes_nothing_back() -> None:
    spilled = Spilled()
    for now in (500, 700, 100, 160):
        spilled.saw(now)
    assert spilled.bytes == 200 + 60
