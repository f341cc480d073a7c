"""The scorecard of bad input: every class of row gets its right decision."""

from pathlib import Path

import pytest

from benchmarks.bad_input.__main__ import Card, run_card
from benchmarks.bad_input.cases import CASES, Case, quick_cases
from benchmarks.bad_input.contenders import inlay
from benchmarks.bad_input.pictures import MAKERS, make
from benchmarks.bad_input.score import Outcome, judge


def wrong(cases: tuple[Case, ...], card: Card) -> list[str]:
    return [f"{c.name}: {mark.found}" for c, mark in zip(cases, card.marks, strict=True) if not mark.is_right]


def test_every_quick_class_of_bad_input_gets_its_right_decision(tmp_path: Path) -> None:
    cases = quick_cases()
    card = run_card(cases, inlay("--local"), "local", tmp_path)
    assert card.is_ended
    assert wrong(cases, card) == []
    assert card.secrets_read == 0, "a file of this machine was read"
    assert card.above_mib < 400


@pytest.mark.fire
@pytest.mark.ray
@pytest.mark.parametrize("options", [("--local",), ()], ids=["local", "ray"])
def test_every_class_of_bad_input_gets_its_right_decision(tmp_path: Path, options: tuple[str, ...]) -> None:
    card = run_card(CASES, inlay(*options), "inlay", tmp_path)
    assert card.is_ended
    assert wrong(CASES, card) == []
    assert card.secrets_read == 0
    assert card.above_mib < 400


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if make(kind, 1).pixels is not None])
def test_the_score_knows_right_pixels_from_wrong_ones(kind: str) -> None:
    right = make(kind, 1).pixels
    assert right is not None
    case = Case("any", file=kind)
    assert judge(case, 1, [Outcome(pixels=right, caption=case.said)]).is_right
    for other in (right[:, ::-1], right // 2, right[..., ::-1] // 2 + 20, make("jpeg", 2).pixels):
        mark = judge(case, 1, [Outcome(pixels=other, caption=case.said)])
        assert mark.is_corrupt and not mark.is_right


def test_the_score_knows_lost_and_doubled_rows_and_other_reasons() -> None:
    kept, dropped = Case("kept"), Case("dropped", ("flat",))
    right = Outcome(pixels=make("jpeg", 0).pixels, caption=kept.said)
    assert judge(kept, 0, [right]).is_right
    assert not judge(kept, 0, []).is_right
    assert not judge(kept, 0, [right, right]).is_right
    assert judge(kept, 0, [Outcome(pixels=right.pixels, caption="other words")]).is_corrupt
    assert not judge(kept, 0, [Outcome("flat")]).is_right
    assert judge(dropped, 0, [Outcome("flat")]).is_right
    assert not judge(dropped, 0, [Outcome("timeout")]).is_right
    assert judge(dropped, 0, [Outcome("other words")], any_reason=True).is_right
    assert not judge(dropped, 0, [right]).is_right
