"""Trackers of experiments: none is imported unless it is asked for."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from training.plain import Plain

Tracker: TypeAlias = Literal["tensorboard", "wandb"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a run stands as its figures begin to come.

    Attributes:
        folder: Of the run.
        name: Of its recipe.
        step: That it goes on from; 0: it is new.
        steps: That it is to take in all.
        recipe: In plain values, for trackers to show.
    """

    folder: Path
    name: str
    step: int
    steps: int
    recipe: Plain = None


class Tracking(Protocol):
    """A tracker at work."""

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note figures after so many steps."""
        ...

    def close(self) -> None:
        """Send what is still to be sent."""
        ...


class TensorBoard:
    """Event files in ``tensorboard`` of the run's folder; steps that come again replace the old ones."""

    def __init__(self, start: Start) -> None:
        writer = _installed("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self.writer = writer(str(start.folder / "tensorboard"), purge_step=start.step + 1)

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note figures after so many steps."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still to be written."""
        self.writer.close()


class Wandb:
    """A run of Weights & Biases, the same one when training goes on; the account is what its client is set to."""

    def __init__(self, start: Start) -> None:
        self.id_file = start.folder / "wandb_id"
        known = self.id_file.read_text() if self.id_file.exists() else None
        wandb = _installed("wandb", "wandb")
        self.run = wandb.init(
            project="inlay", name=start.folder.name, id=known, resume="allow", dir=start.folder, config=start.recipe
        )
        self.id_file.write_text(self.run.id)

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note figures after so many steps."""
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        """Send what is still to be sent."""
        self.run.finish()


_TRACKERS: Mapping[Tracker, Callable[[Start], Tracking]] = {"tensorboard": TensorBoard, "wandb": Wandb}
TRACKERS: tuple[Tracker, ...] = tuple(_TRACKERS)


def open_tracker(name: Tracker, start: Start) -> Tracking:
    """A tracker by name.

    Raises:
        ValueError: If there is none of that name.
        ImportError: If it is not installed.
    """
    if name not in _TRACKERS:
        raise ValueError(f"there is no tracker {name!r}; there are {', '.join(TRACKERS)}")
    return _TRACKERS[name](start)


def _installed(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{package} is not installed: pip install 'inlay[tracking]', or track without it") from error
