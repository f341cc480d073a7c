"""Whether what became of a row is right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.bad_input.cases import Case
from benchmarks.bad_input.contenders import Outcome, Outcomes
from benchmarks.bad_input.pictures import make

NEAR = 3.0
"""Mean difference, in 8-bit levels, that a JPEG of quality 95 of a soft scene stays well below; wrong pixels do not."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A row's mark.

    Attributes:
        is_right: The decision is right, and what is kept shows and says what it should.
        is_corrupt: Something is kept that shows or says something else than it should.
        found: What became of it, in words.
    """

    is_right: bool
    is_corrupt: bool
    found: str


def expected(case: Case) -> str:
    """What is right, in words."""
    return f"rejected: {' or '.join(case.reasons)}" if case.reasons else "kept"


def judge_all(cases: Sequence[Case], outcomes: Outcomes, any_reason: bool = False) -> tuple[Mark, ...]:
    """Mark every row; see :func:`judge`."""
    return tuple(judge(case, i, outcomes.get(i, []), any_reason) for i, case in enumerate(cases))


def judge(case: Case, number: int, outcomes: Sequence[Outcome], any_reason: bool = False) -> Mark:
    """Mark what became of a row.

    Args:
        case: What the row is.
        number: Of the row.
        outcomes: What became of it; one, if it was neither lost nor doubled.
        any_reason: Rejected is rejected, whatever for: for contenders that have other reasons.
    """
    if len(outcomes) != 1:
        return Mark(False, False, "lost" if not outcomes else f"{len(outcomes)} times there")
    (outcome,) = outcomes
    if outcome.reason:
        is_right = bool(case.reasons) and (any_reason or outcome.reason in case.reasons)
        return Mark(is_right, False, f"rejected: {outcome.reason}")
    if case.reasons:
        return Mark(False, False, "kept")
    wrong = _differs(make(case.file, number - case.repeats).pixels, outcome.pixels)
    wrong = wrong or ("" if outcome.caption == case.said or any_reason else f"caption {outcome.caption!r}")
    return Mark(not wrong, bool(wrong), f"kept, {wrong}" if wrong else "kept")


def _differs(right: npt.NDArray[np.uint8] | None, found: npt.NDArray[np.uint8] | None) -> str:
    if right is None or found is None:
        return "though it shows nothing"
    if right.shape != found.shape:
        return f"{found.shape[1]} x {found.shape[0]} pixels"
    difference = float(np.abs(right.astype(int) - found).mean())
    return f"pixels wrong by {difference:.0f} levels" if difference > NEAR else ""
