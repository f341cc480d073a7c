import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from training.config import Schedule
from training.fit.schedule import advance, make_schedule


def schedule_at(schedule: Schedule, step: int, steps: int = 10) -> LambdaLR:
    rates = [{"params": [nn.Parameter(torch.ones(1))], "lr": lr, "initial_lr": lr} for lr in (1.0, 0.1)]
    return make_schedule(torch.optim.AdamW(rates), schedule, steps, step)


@pytest.mark.parametrize("kind", ["constant", "cosine", "linear"])
def test_a_schedule_made_anywhere_goes_on_as_the_one_from_the_start(kind: str) -> None:
    schedule = Schedule(kind=kind, warmup=3)
    running, rates = schedule_at(schedule, 0), []
    for step in range(10):
        rates.append(running.get_last_lr())
        assert schedule_at(schedule, step).get_last_lr() == rates[-1]
        advance(running)
    assert [rate[0] for rate in rates[:4]] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [rate[1] for rate in rates] == pytest.approx([rate[0] / 10 for rate in rates])


def test_cosine_and_linear_end_at_nothing_and_constant_stays() -> None:
    ends = {kind: schedule_at(Schedule(kind=kind), 10).get_last_lr()[0] for kind in ("constant", "cosine", "linear")}
    assert ends == pytest.approx({"constant": 1.0, "cosine": 0.0, "linear": 0.0})


@pytest.mark.parametrize("kind", ["constant", "cosine"])
def test_a_warm_up_may_begin_above_nothing_and_ends_where_any_does(kind: str) -> None:
    plain, begun = Schedule(kind=kind, warmup=3), Schedule(kind=kind, warmup=3, warmup_from=0.1)
    rates = [schedule_at(begun, step).get_last_lr()[0] for step in range(10)]
    assert rates[:3] == pytest.approx([0.1, 0.4, 0.7])
    assert rates[3:] == [schedule_at(plain, step).get_last_lr()[0] for step in range(3, 10)]
    running = schedule_at(begun, 0)
    for rate in rates:
        assert running.get_last_lr()[0] == rate
        advance(running)


def test_a_warm_up_begins_at_a_share() -> None:
    with pytest.raises(ValueError, match="warmup_from must be a share of the peak, 0 to 1, got 10"):
        Schedule(warmup_from=10)
