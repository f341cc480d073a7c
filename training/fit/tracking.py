"""Figures of a run for TensorBoard and Weights & Biases, whose packages are imported only when asked for."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeAlias

from training.config import Recipe
from training.fit.figures import Log
from training.plain import to_plain

Tracker: TypeAlias = Literal["tensorboard", "wandb"]


class TensorBoard:
    """Scalars in ``tensorboard`` of a run's folder; what a resumed run repeats replaces what was there."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note figures after so many steps."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()


class Wandb:
    """A run of Weights & Biases, named as the run's folder; a resumed run goes on with it."""

    def __init__(self, wandb: ModuleType, folder: Path, recipe: Recipe) -> None:
        path = folder / "wandb_id"
        name = path.read_text() if path.exists() else secrets.token_hex(4)
        path.write_text(name)
        self.run = wandb.init(id=name, resume="allow", name=folder.name, dir=str(folder), config=to_plain(recipe))

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note figures after so many steps."""
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        """Send what is left."""
        self.run.finish()


def read_trackers(names: Sequence[str]) -> tuple[Tracker, ...]:
    """Trackers by name.

    Raises:
        ValueError: If there is none of such a name.
    """
    for name in names:
        if name not in _OPENERS:
            raise ValueError(f"--track {name}: there are {' and '.join(_OPENERS)}")
    return tuple(name for name in _OPENERS if name in names)


def check_trackers(names: Sequence[Tracker]) -> None:
    """See that the packages of trackers are there.

    Raises:
        ImportError: If one isn't; the message says how to install it.
    """
    for name in names:
        _required(name)


@contextmanager
def trackers(names: Sequence[Tracker], folder: Path, recipe: Recipe, step: int) -> Iterator[list[Log]]:
    """Trackers of a run that goes on after ``step``; closed at the end."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(_OPENERS[name](folder, recipe, step))) for name in dict.fromkeys(names)]


def _open_tensorboard(folder: Path, recipe: Recipe, step: int) -> TensorBoard:
    return TensorBoard(folder, step)


def _open_wandb(folder: Path, recipe: Recipe, step: int) -> Wandb:
    return Wandb(_required("wandb"), folder, recipe)


_OPENERS: Mapping[Tracker, Callable[[Path, Recipe, int], TensorBoard | Wandb]] = {
    "tensorboard": _open_tensorboard,
    "wandb": _open_wandb,
}


def _required(name: Tracker) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"--track {name} needs the package {name} ({error}): install the extra with pip install -e '.[tracking]'"
        ) from None
