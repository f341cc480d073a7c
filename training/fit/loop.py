"""The loop: it knows a family, an optimiser and an iterator."""

import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.lr_scheduler import LambdaLR

from training.config import Recipe
from training.families.base import Family, Losses
from training.fit.checkpoint import Checkpoints, Notes
from training.fit.ema import Ema
from training.fit.figures import Interval, Log, Outcome
from training.fit.flops import Meter
from training.fit.made_with import made_with
from training.fit.parallel import as_family, evaluated, hold_gradients
from training.fit.schedule import advance
from training.fit.skip import Skips
from training.fit.state import gather
from training.fit.stop import Stop, StoppedError
from training.noise import Noise
from training.stream.collate import Batch
from training.stream.stream import PromptStream
from training.stream.tensors import BatchTensors, to_tensors


class DivergedError(ValueError):
    """Too many steps in a row could not be taken."""


class Draw(Protocol):
    """Draws samples and writes them; every rank calls it, each with samples of its own."""

    def __call__(self, family: Family, tensors: BatchTensors, step: int) -> None:
        """Draw what some of a batch's targets are to be drawn from."""
        ...


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
        device: Of this rank.
        meter: Of how it is used.
        log: Where figures go; on the first rank.
        draw: How samples are drawn.
        shown: What they are drawn from, each time the same; ``None``: the batch of the step.
        interval: Since the last line of the log.
        stop: Whether the run was asked to end.
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
    device: torch.device
    meter: Meter
    log: Log | None = None
    draw: Draw | None = None
    shown: BatchTensors | None = None
    interval: Interval = field(default_factory=Interval)
    stop: Stop = field(default_factory=Stop)

    def run(self) -> None:
        """Go on to the recipe's last step, saving on the way.

        Raises:
            DivergedError: If too many steps in a row could not be taken.
            StoppedError: If a rank was asked to end; the step is saved.
        """
        while self.stream.step < self.recipe.steps:
            with self.meter.counted():
                outcome = self.take_step()
            if self.skips.in_row >= self.recipe.skip.most:
                self.checkpoints.finish()
                raise DivergedError(self._diagnosis(outcome))
            self._report(outcome)
            if self._is_due(self.recipe.save_every):
                self.save()
            self.checkpoints.settle()
            if asked := self.stop.agreed():
                self.save()
                self.checkpoints.finish()
                raise StoppedError(self.stream.step, asked)
        self.checkpoints.finish()

    def take_step(self) -> Outcome:
        """Go through a global batch."""
        parts = self.stream.options.accumulation
        losses, keys, wait_s = list[Losses](), list[str](), 0.0
        for part in range(parts):
            began = time.perf_counter()
            batch = next(self.stream)
            wait_s += time.perf_counter() - began
            keys += batch.keys
            hold_gradients(self.family, part < parts - 1)
            tensors = self.tensors_of(batch)
            losses.append(self.backward(tensors, part))
        norm, was_taken = self.move()
        return Outcome(losses=losses, tensors=tensors, norm=norm, was_taken=was_taken, keys=tuple(keys), wait_s=wait_s)

    def save(self) -> None:
        """Begin to write a checkpoint."""
        notes = Notes(
            family=type(self.recipe.family).__name__,
            step=self.stream.step,
            skips=self.skips,
            stream=self.stream.state_dict(),
            versions=made_with(),
        )
        self.checkpoints.save(gather(self.family, self.carried, self.optimiser, self.ema), notes)

    def tensors_of(self, batch: Batch) -> BatchTensors:
        """A batch where it is computed on."""
        return to_tensors(batch, self.device)

    def backward(self, tensors: BatchTensors, part: int) -> Losses:
        """Add the gradient of a part of the batch."""
        parts = self.stream.options.accumulation
        slots = self.stream.world.slots(self.recipe.batch_size, parts, part)
        noise = Noise(self.recipe.seed, tensors.batch.place.step, slots)
        torch.manual_seed(noise.generator_seed())
        with self._precision():
            losses: Losses = self.family(tensors, noise)
        (losses.total / parts).backward()
        return Losses(total=losses.total.detach(), terms=losses.terms)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16")

    def move(self) -> tuple[float, bool]:
        """Take the step if the gradient is sound; its norm, the same on all ranks, and whether it was taken."""
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        for parameter in parameters:  # the same on any number of ranks, though only some use it, or none
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        total = _whole(get_total_norm([parameter.grad for parameter in parameters]))
        norm = float(total)
        was_taken = self.skips.admits(norm, self.recipe.skip)
        if was_taken:
            clip_grads_with_norm_(parameters, self.recipe.optimiser.max_norm, total)
            self.optimiser.step()
            if self.ema:
                self.ema.update(self.stream.step - 1)
        self.optimiser.zero_grad(set_to_none=True)
        advance(self.schedule)
        return norm, was_taken

    def _report(self, outcome: Outcome) -> None:
        self.interval.add(outcome)
        if self._is_due(self.recipe.log_every):
            values = self._figures(outcome)
            if self.log is not None:
                self.log.step(self.stream.step, values)
            self.interval = Interval()
        if self.draw is not None and self.recipe.sample_every and self._is_due(self.recipe.sample_every):
            averaged = self.ema.swapped() if self.ema else nullcontext()
            with averaged, evaluated(self.family), self._precision(), torch.no_grad():
                self.draw(as_family(self.family), self.shown or outcome.tensors, self.stream.step)

    def _figures(self, outcome: Outcome) -> dict[str, float]:
        group = self.stream.world.group
        rates = {f"lr/{number}": float(each["lr"]) for number, each in enumerate(self.optimiser.param_groups)}
        norms = {"grad_norm": outcome.norm, "skipped": float(self.skips.skipped)}
        speed = self.interval.rates(self.recipe.batch_size, group)
        return {**outcome.terms(group), **norms, **rates, **speed, **self.meter.figures(speed["step_s"])}

    def _is_due(self, every: int) -> bool:
        return self.stream.step % every == 0 or self.stream.step == self.recipe.steps

    def _diagnosis(self, outcome: Outcome) -> str:
        group = self.stream.world.group
        terms = ", ".join(f"{name} {value:.4g}" for name, value in outcome.terms(group).items())
        keys = ", ".join(key for rank in group.gather(outcome.keys) for key in rank)
        return (
            f"step {self.stream.step - 1}: {self.skips.in_row} steps in a row could not be taken; in this one the "
            f"gradient's norm is {outcome.norm:.4g} (running mean {self.skips.mean:.4g}); {terms}; samples {keys}. "
            "Look at these samples, lower the learning rate, or resume from an older checkpoint"
        )


def _whole(norm: Tensor) -> Tensor:
    """A norm over all ranks' shards."""
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
