"""A training run that can be cut off and go on: optimiser, learning rate, averaged weights, and their file."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stages.data.shapes_training.muon import Muon


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast to learn.

    Attributes:
        steps: In all. A run that goes on with another number goes on along the other curve.
        lr: Learning rate after the first ``warmup`` steps; then it falls along half a cosine to a fiftieth.
        warmup: Steps.
        clip: Largest norm of a step's gradient.
        weight_decay: On matrices only.
        muon: Parts of the names of parameters whose matrices Muon moves; AdamW moves the others.
        ema: Share that averaged weights keep at each step, once past the first steps.
        seed: Of the weights and of every step's batch.
    """

    steps: int
    lr: float
    warmup: int = 200
    clip: float = 1.0
    weight_decay: float = 0.01
    muon: tuple[str, ...] = ()
    ema: float = 0.999
    seed: int = 0

    def lr_at(self, step: int) -> float:
        """Learning rate of a step."""
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        return self.lr * min(1.0, (step + 1) / self.warmup) * (0.02 + 0.98 * cosine)


@dataclass(slots=True)
class Run:
    """The state of a training run.

    Attributes:
        model: What learns.
        plan: How.
        step: Steps taken.
        averaged: The model's weights, averaged over the last steps; what is published.
        optimisers: Muon, if anything is for it, and AdamW.
    """

    model: nn.Module
    plan: Plan
    step: int = 0
    averaged: dict[str, Tensor] = field(init=False)
    optimisers: list[torch.optim.Optimizer] = field(init=False)

    def __post_init__(self) -> None:
        """Start the average at the weights as they are."""
        self.averaged = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        wanting = {name: x for name, x in self.model.named_parameters() if x.requires_grad}
        hidden = {name for name, x in wanting.items() if x.ndim == 2 and any(part in name for part in self.plan.muon)}
        rest = [x for name, x in wanting.items() if name not in hidden]
        groups = [
            {"params": [x for x in rest if x.ndim > 1], "weight_decay": self.plan.weight_decay},
            {"params": [x for x in rest if x.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimisers = [torch.optim.AdamW(groups, lr=self.plan.lr, betas=(0.9, 0.98), fused=True)]
        if hidden:
            matrices = [x for name, x in wanting.items() if name in hidden]
            self.optimisers.append(Muon(matrices, lr=self.plan.lr, weight_decay=self.plan.weight_decay))

    def generators(self) -> Iterator[np.random.Generator]:
        """Random numbers for each step that is left; a step's do not depend on where the run was cut."""
        while self.step < self.plan.steps:
            yield np.random.default_rng((self.plan.seed, self.step))

    def learn(self, loss: Tensor) -> None:
        """Take a step down the loss."""
        self.model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.plan.lr_at(self.step)
            optimiser.step()
        self.step += 1
        self._average()

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.plan.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.averaged[name].lerp_(value, 1 - keep)

    def save(self, path: Path) -> None:
        """Write all of it, so that a run cut off meanwhile leaves the file before."""
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
        }
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def restore(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.averaged = state["averaged"]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step = state["step"]
