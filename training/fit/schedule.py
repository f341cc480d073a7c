"""Learning rates over a run: a function of the step, so that there is nothing to save."""

import warnings

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from training.config import Schedule
from training.torchvision_compat import ensure_torchvision

_NAMES = {"constant": "constant_with_warmup", "cosine": "cosine", "linear": "linear"}
"""By our kind, the name in diffusers."""


def make_schedule(optimiser: Optimizer, schedule: Schedule, steps: int, step: int = 0) -> LambdaLR:
    """The schedule of all groups, standing at ``step`` of ``steps``."""
    ensure_torchvision()
    from diffusers.optimization import get_scheduler

    made: LambdaLR = get_scheduler(
        _NAMES[schedule.kind],
        optimiser,
        num_warmup_steps=schedule.warmup,
        num_training_steps=steps,
        last_epoch=step - 1,
    )
    return made if schedule.warmup_from is None else _begun_at(made, schedule, step)


def _begun_at(made: LambdaLR, schedule: Schedule, step: int) -> LambdaLR:
    """The same with a warm-up that begins above nothing."""
    factor, start = made.lr_lambdas[0], schedule.warmup_from or 0.0

    def begun(at: int) -> float:
        return start + (1 - start) * factor(at) if at < schedule.warmup else factor(at)

    return LambdaLR(made.optimizer, begun, last_epoch=step - 1)


def advance(schedule: LambdaLR) -> None:
    """Go on by a step, whether the optimiser took it or not."""
    with warnings.catch_warnings():  # the first step may be one that was not taken
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        schedule.step()
