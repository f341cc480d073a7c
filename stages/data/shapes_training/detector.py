"""Train the bundled detector from nothing: transformers' Grounding DINO on scenes of the shapes world.

A detector transformer that learns from its own assignments alone needs very long. Here every cell of the encoder's maps
is taught as well, from the first step on: what it is near the centre of, and the box around it. So the decoder soon
refines proposals that are nearly right.

Usage: ``python -m stages.data.shapes_training.detector --scenes FOLDER --work FOLDER --out FOLDER [--resume]``; with
several processes, ``python -m torch.distributed.run --nproc-per-node N -m stages.data.shapes_training.detector …``
"""

import argparse
import math
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from stages.data.shapes_training import detector_network as network
from stages.data.shapes_training.detector_batches import Batch, training_batches
from stages.data.shapes_training.detector_losses import Found, cell_centres, decoder_answers, dense_loss, set_loss
from stages.data.shapes_training.evaluate import Figures, answers, figures, question
from stages.shapes.scene import SceneSettings

STRIDES = (8, 16)
EMA = 0.998
HELD_OUT = range(50_000, 50_200)
"""Seeds for watching the training; the tests and the model card use others."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--scenes", type=Path, required=True, help="folder that detector_scenes wrote")
    parser.add_argument("--out", type=Path, required=True, help="where the finished network goes")
    parser.add_argument("--work", type=Path, required=True, help="folder of the state to resume from")
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--batch", type=int, default=32, help="scenes of a step, in each process")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--every", type=int, default=250, help="steps between evaluations")
    return parser.parse_args()


def rate(step: int, steps: int) -> float:
    """Share of the highest learning rate: up in 200 steps, down by a cosine."""
    return min(1.0, (step + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0))))


def losses(model: Any, batch: Batch) -> dict[str, Tensor]:
    """All losses of a batch."""
    output = model(**batch.inputs())
    _, height, width = batch.is_picture.shape
    shapes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    levels = torch.cat([torch.full((rows * columns,), i) for i, (rows, columns) in enumerate(shapes)])
    length = batch.ids.shape[1]
    cells = Found(output.enc_outputs_class[..., :length], output.enc_outputs_coord_logits)
    found = dense_loss(cells, cell_centres(shapes, batch.is_picture), levels, batch.truth)
    for layer, answer in enumerate(decoder_answers(model, output, batch.truth.is_text)):
        found |= {f"{name}_{layer}": loss for name, loss in set_loss(answer, batch.truth).items()}
    return found


def share_gradients(model: nn.Module) -> None:
    """Average the gradients of all processes."""
    if not distributed.is_initialized():
        return
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads]) / distributed.get_world_size()
    distributed.all_reduce(flat)
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


class Run:
    """A training run: the network, its running average, and where it stands."""

    def __init__(self, args: argparse.Namespace, rank: int) -> None:
        torch.manual_seed(0)
        self.args, self.rank, self.step = args, rank, 0
        self.model = network.build()
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=args.rate)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.state = args.work / "state.pt"
        if args.resume and self.state.exists():
            self._restore()

    def _restore(self) -> None:
        state = torch.load(self.state, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step = state["average"], state["step"]

    def save(self) -> None:
        """Write the state to resume from, and the network so far."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save(state | {"average": self.average, "step": self.step}, self.state.with_suffix(".part"))
        self.state.with_suffix(".part").rename(self.state)
        network.export(self.average, self.args.out)

    def learn(self, batch: Batch) -> dict[str, float]:
        """Take one step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.args.rate * rate(self.step, self.args.steps)
        found = losses(self.model, batch)
        self.optimizer.zero_grad()
        torch.stack(list(found.values())).sum().backward()
        share_gradients(self.model)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._follow()
        return {name: loss.item() for name, loss in found.items()}

    @torch.no_grad()
    def _follow(self) -> None:
        keep = min(EMA, self.step / (self.step + 20))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - keep) if value.is_floating_point() else self.average[name].copy_(value)

    def watch(self, questions: Any) -> Figures:
        """Evaluate the running average."""
        judge = network.build()
        judge.load_state_dict(self.average)
        return figures(list(answers(judge.eval(), questions)))


def main() -> None:
    """Train."""
    args, rank = arguments(), int(os.environ.get("RANK", "0"))
    if "RANK" in os.environ:
        distributed.init_process_group("gloo")
    args.work.mkdir(parents=True, exist_ok=True)
    run, questions = Run(args, rank), [question(seed, SceneSettings()) for seed in HELD_OUT] if rank == 0 else []
    started, sums = time.monotonic(), dict[str, float]()
    batches = training_batches(args.scenes, args.batch, np.random.default_rng((run.step, rank)))
    while run.step < args.steps:
        for name, loss in run.learn(next(batches)).items():
            sums[name] = sums.get(name, 0.0) + loss
        if rank == 0 and run.step % 50 == 0:
            means = " ".join(f"{name} {total / 50:.3f}" for name, total in sums.items())
            print(f"step {run.step} {time.monotonic() - started:.0f}s {means}", flush=True)
            sums = {}
        if rank == 0 and (run.step % args.every == 0 or run.step == args.steps):
            run.save()
            print({name: round(value, 4) for name, value in asdict(run.watch(questions)).items()}, flush=True)


if __name__ == "__main__":
    main()
