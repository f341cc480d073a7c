"""The loop: it knows a family, an optimiser and an iterator."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.lr_scheduler import LambdaLR

from training.config import Recipe
from training.families.base import Losses
from training.fit.checkpoint import Checkpoints, Notes
from training.fit.ema import Ema
from training.fit.parallel import hold_gradients
from training.fit.skip import Skips
from training.fit.state import gather
from training.noise import Noise
from training.stream.collate import Batch
from training.stream.stream import PromptStream
from training.stream.tensors import BatchTensors, to_tensors


class Log(Protocol):
    """Where figures of a run go."""

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note figures after so many steps."""
        ...


class DivergedError(ValueError):
    """Too many steps in a row could not be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A step as this rank saw it.

    Attributes:
        losses: Of its parts.
        norm: Of the whole gradient before it was clipped.
        was_taken: Whether parameters moved.
        keys: Of its samples.
        wait_s: Seconds that it waited for data.
    """

    losses: Sequence[Losses]
    norm: float
    was_taken: bool
    keys: tuple[str, ...]
    wait_s: float

    def terms(self) -> dict[str, float]:
        """Means of the loss and of its terms over parts."""
        rows = [{"loss": part.total.detach(), **part.terms} for part in self.losses]
        return {name: sum(float(row[name]) for row in rows) / len(rows) for name in rows[0]}


@dataclass(slots=True)
class Interval:
    """Time since the last line of the log."""

    began: float = field(default_factory=time.perf_counter)
    wait_s: float = 0.0
    steps: int = 0

    def rates(self, batch_size: int) -> dict[str, float]:
        """Samples of all ranks a second, and the share of time spent waiting for data."""
        seconds = time.perf_counter() - self.began
        return {
            "samples_per_s": self.steps * batch_size / seconds,
            "step_s": seconds / max(self.steps, 1),
            "data_wait": self.wait_s / seconds,
        }


@dataclass(slots=True, kw_only=True)
class Fit:
    """A run of training in one of its ranks.

    Attributes:
        recipe: Of the run.
        family: Spread over the ranks.
        stream: Of its batches; its step is the run's.
        optimiser: Over what trains.
        schedule: Of its learning rates, at the stream's step.
        ema: Averages of what trains, if any are kept.
        skips: Steps that were not taken.
        checkpoints: Where to save.
        carried: Names of frozen parameters that are saved too.
        log: Where figures go; on the first rank.
        draw: Draws samples after so many steps.
        device: Of this rank.
    """

    recipe: Recipe
    family: nn.Module
    stream: PromptStream
    optimiser: torch.optim.AdamW
    schedule: LambdaLR
    ema: Ema | None
    skips: Skips
    checkpoints: Checkpoints
    carried: frozenset[str]
    log: Log | None
    draw: Callable[[int], None] | None
    device: torch.device
    interval: Interval = field(default_factory=Interval)

    def run(self) -> None:
        """Go on to the recipe's last step, and save.

        Raises:
            DivergedError: If too many steps in a row could not be taken.
        """
        while self.stream.step < self.recipe.steps:
            outcome = self.take_step()
            self._report(outcome)
            if self._is_due(self.recipe.save_every):
                self.save()
            self.checkpoints.settle()
        self.checkpoints.finish()

    def take_step(self) -> Outcome:
        """Go through a global batch."""
        parts = self.stream.options.accumulation
        losses, keys, wait_s = list[Losses](), list[str](), 0.0
        for part in range(parts):
            began = time.perf_counter()
            batch = next(self.stream)
            wait_s += time.perf_counter() - began
            hold_gradients(self.family, part < parts - 1)
            losses.append(self._backward(batch, part))
            keys += batch.keys
        step = self.stream.step - 1
        norm, was_taken = self._move(step)
        outcome = Outcome(losses=losses, norm=norm, was_taken=was_taken, keys=tuple(keys), wait_s=wait_s)
        if self.skips.in_row >= self.recipe.skip.most:
            raise DivergedError(self._diagnosis(step, outcome))
        return outcome

    def save(self) -> None:
        """Begin to write a checkpoint."""
        notes = Notes(
            family=type(self.recipe.family).__name__,
            step=self.stream.step,
            skips=self.skips,
            stream=self.stream.state_dict(),
        )
        self.checkpoints.save(gather(self.family, self.carried, self.optimiser, self.ema), notes)

    def _backward(self, batch: Batch, part: int) -> Losses:
        """Add the gradient of a part of the batch."""
        parts = self.stream.options.accumulation
        slots = self.stream.world.slots(self.recipe.batch_size, parts, part)
        noise = Noise(self.recipe.seed, batch.place.step, slots)
        torch.manual_seed(noise.generator_seed())
        losses = self._losses(to_tensors(batch, self.device), noise)
        (losses.total / parts).backward()
        return losses

    def _losses(self, tensors: BatchTensors, noise: Noise) -> Losses:
        is_mixed = self.recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=is_mixed):
            losses: Losses = self.family(tensors, noise)
        return losses

    def _move(self, step: int) -> tuple[float, bool]:
        """Take the step if the gradient is sound; its norm, the same on all ranks, and whether it was taken."""
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        total = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        total = total.full_tensor() if isinstance(total, torch.distributed.tensor.DTensor) else total
        norm = float(total)
        was_taken = self.skips.admits(norm, self.recipe.skip)
        if was_taken:
            clip_grads_with_norm_(parameters, self.recipe.optimiser.max_norm, total)
            self.optimiser.step()
            if self.ema:
                self.ema.update(step)
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        return norm, was_taken

    def _report(self, outcome: Outcome) -> None:
        self.interval.steps += 1
        self.interval.wait_s += outcome.wait_s
        if self._is_due(self.recipe.log_every):
            values = self._figures(outcome)
            if self.log is not None:
                self.log.step(self.stream.step, values)
            self.interval = Interval()
        if self.draw is not None and self.recipe.sample_every and self._is_due(self.recipe.sample_every):
            self.draw(self.stream.step)

    def _figures(self, outcome: Outcome) -> dict[str, float]:
        ranks = self.stream.world.group.gather({**outcome.terms(), "data_wait": self.interval.wait_s})
        means = {name: sum(rank[name] for rank in ranks) / len(ranks) for name in ranks[0]}
        self.interval.wait_s = means.pop("data_wait")
        rates = {f"lr/{number}": group["lr"] for number, group in enumerate(self.optimiser.param_groups)}
        norms = {"grad_norm": outcome.norm, "skipped": float(self.skips.skipped)}
        return {**means, **norms, **rates, **self.interval.rates(self.recipe.batch_size)}

    def _is_due(self, every: int) -> bool:
        return self.stream.step % every == 0 or self.stream.step == self.recipe.steps

    def _diagnosis(self, step: int, outcome: Outcome) -> str:
        terms = ", ".join(f"{name} {value:.4g}" for name, value in outcome.terms().items())
        return (
            f"step {step}: the {self.skips.in_row}th step in a row that could not be taken, its gradient's norm "
            f"{outcome.norm:.4g} (running mean {self.skips.mean:.4g}); {terms}; samples {', '.join(outcome.keys)}. "
            "Look at these samples, lower the learning rate, or resume from an older checkpoint"
        )
