"""A run's tensors by name, as a checkpoint holds them: weights, averages, the optimiser's moments."""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from training.fit.checkpoint import read_tensors, shapes_in
from training.fit.ema import Ema
from training.fit.groups import LORA, closest, trainables

_WEIGHTS, _AVERAGES, _MOMENTS = "weights.", "ema.", "adamw."
_STEP = "step"


def gather(
    family: nn.Module, carried: Collection[str], optimiser: torch.optim.AdamW, ema: Ema | None
) -> dict[str, Tensor]:
    """All tensors to save; ``carried``: names of frozen parameters that another run trained."""
    parameters = dict(family.named_parameters())
    names = [*trainables(family), *carried]
    return {
        **{f"{_WEIGHTS}{name}": parameters[name].detach() for name in names},
        **{f"{_AVERAGES}{name}": average for name, average in (ema.averages.items() if ema else ())},
        **_moments(family, optimiser),
    }


def restore(path: Path, family: nn.Module, optimiser: torch.optim.AdamW, ema: Ema | None) -> frozenset[str]:
    """Put a checkpoint of the same run back, on any number of ranks; the names of frozen parameters in it."""
    held = shapes_in(path)
    names = _names(held, _WEIGHTS)
    wanted = _weights(path, family, names, _WEIGHTS)
    for name in trainables(family).keys() - set(names):
        raise ValueError(f"{path}: it lacks {name}, which the recipe trains")
    if ema:
        wanted |= {f"{_AVERAGES}{name}": average for name, average in ema.averages.items()}
    for name, parameter in trainables(family).items():
        if f"{_MOMENTS}{_STEP}.{name}" in held:
            optimiser.state[parameter] = _no_moments(parameter, is_fused=bool(optimiser.defaults["fused"]))
    read_tensors(path, wanted | _moments(family, optimiser))
    return frozenset(names) - trainables(family).keys()


def load_weights(path: Path, family: nn.Module, ema: bool) -> tuple[str, ...]:
    """Put a checkpoint's weights into a family that isn't spread; the names of its parameters that were overwritten.

    Args:
        path: The checkpoint, of any run whose family has these parameters, with or without low-rank updates.
        family: Whose parameters are overwritten, frozen ones too.
        ema: Take averages where the checkpoint has them.
    """
    held = shapes_in(path)
    averaged = set(_names(held, _AVERAGES)) if ema else set()
    names = _names(held, _WEIGHTS)
    plain = [name for name in names if name not in averaged]
    wanted = _weights(path, family, plain, _WEIGHTS) | _weights(path, family, sorted(averaged), _AVERAGES)
    read_tensors(path, wanted)
    return tuple(_places(family)[name] for name in names)


def alone(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """All tensors of a checkpoint that holds some parameters, by name, and nothing of their training."""
    return {f"{_WEIGHTS}{name}": parameter.detach() for name, parameter in parameters.items()}


def weights_in(path: Path) -> tuple[str, ...]:
    """Names of the parameters that a checkpoint holds: what its run trained, and what the one before it did."""
    return tuple(_names(shapes_in(path), _WEIGHTS))


def _weights(path: Path, family: nn.Module, names: Collection[str], prefix: str) -> dict[str, Tensor]:
    parameters, places = dict(family.named_parameters()), _places(family)
    for name in names:
        if name not in places:
            remedy = "; keep the lora group that it is of" if LORA in f".{name}" else ""
            raise ValueError(
                f"{path}: it holds {name}, which the recipe's family has not; it has {closest(name, parameters)}"
                f"{remedy}"
            )
    return {f"{prefix}{name}": parameters[places[name]].detach() for name in names}


def _places(family: nn.Module) -> dict[str, str]:
    """By the name that a checkpoint may have for it, each parameter's: a layer with updates was one without."""
    names = [name for name, _ in family.named_parameters()]
    return {name.replace(".base_layer.", "."): name for name in names} | {name: name for name in names}


def _names(held: Mapping[str, tuple[int, ...]], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in held if name.startswith(prefix)]


def _moments(family: nn.Module, optimiser: torch.optim.AdamW) -> dict[str, Tensor]:
    """Of parameters that ever had a gradient. Counts of steps have one axis, as the files know no scalars."""
    return {
        f"{_MOMENTS}{key}.{name}": value.reshape(1) if key == _STEP else value
        for name, parameter in trainables(family).items()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def _no_moments(parameter: nn.Parameter, is_fused: bool) -> dict[str, Tensor]:
    """What AdamW keeps of a parameter at first."""
    value = parameter.detach()
    count = torch.zeros((), device=value.device if is_fused else "cpu")
    return {_STEP: count, "exp_avg": torch.zeros_like(value), "exp_avg_sq": torch.zeros_like(value)}
