"""What trains: parameters by glob, in full or by low-rank updates, each group at its own learning rate."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from training.config import Group, Lora, Optimiser, Recipe
from training.torchvision_compat import ensure_torchvision

LORA = ".lora_"
"""In the names of low-rank updates' parameters, by peft."""


@dataclass(frozen=True, slots=True)
class Trained:
    """Names of parameters that train at one learning rate."""

    names: tuple[str, ...]
    lr: float


def choose(family: nn.Module, groups: Sequence[Group]) -> tuple[Trained, ...]:
    """Freeze a family but for what groups say, and give it its low-rank updates; what trains becomes float32.

    Raises:
        ValueError: If a group matches nothing or says too little, or if nothing trains.
    """
    for group in groups:
        _check(group)
    matched = _matches([name for name, _ in family.named_parameters()], groups)
    layers = [_layers(family, group, names) for group, names in zip(groups, matched, strict=True)]
    _inject(
        family, {layer: group.lora for group, own in zip(groups, layers, strict=True) if group.lora for layer in own}
    )
    chosen = [
        names if group.mode == "full" else _updates(family, own)
        for group, names, own in zip(groups, matched, layers, strict=True)
    ]
    trained = tuple(Trained(names, group.lr) for group, names in zip(groups, chosen, strict=True) if names)
    if not trained:
        raise ValueError("the recipe trains nothing: give it a group of mode full or lora")
    _free(family, {name for group in trained for name in group.names})
    return trained


def outlined(recipe: Recipe) -> nn.Module:
    """A recipe's family with its groups chosen, on the meta device: all of its sizes, and not a byte of weights.

    Raises:
        ValueError: If the family's parts don't fit each other, or the recipe's groups its parameters.
    """
    with torch.device("meta"):
        family = recipe.family.build(load=False)
        choose(family, recipe.groups)
    return family


def make_optimiser(family: nn.Module, trained: Sequence[Trained], options: Optimiser) -> torch.optim.AdamW:
    """AdamW over what trains; made after the family is spread."""
    parameters = dict(family.named_parameters())
    groups: list[dict[str, Any]] = [
        {"params": [parameters[name] for name in group.names], "lr": group.lr, "initial_lr": group.lr}
        for group in trained
    ]
    is_fused = all(parameter.is_cuda for group in groups for parameter in group["params"])
    return torch.optim.AdamW(
        groups, betas=options.betas, eps=options.eps, weight_decay=options.weight_decay, fused=is_fused
    )


def trainables(family: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that train, by name."""
    return {name: parameter for name, parameter in family.named_parameters() if parameter.requires_grad}


def set_modes(family: nn.Module) -> None:
    """Let what trains train; parts none of whose parameters do work as they do after training."""
    family.train()
    for part in family.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()


def closest(name: str, names: Iterable[str]) -> str:
    """A few of the names that look like one."""
    known = sorted(set(names))
    return ", ".join(get_close_matches(name, known, n=3, cutoff=0.3) or known[:3])


def _check(group: Group) -> None:
    if group.mode == "lora" and group.lora is None:
        raise ValueError(f"group {group.names!r} has mode lora, but no lora=Lora(rank=…, alpha=…, targets=…)")
    if group.mode != "lora" and group.lora is not None:
        raise ValueError(f"group {group.names!r} has a lora, but mode {group.mode}; set mode='lora'")
    if group.mode != "frozen" and not 0 < group.lr < math.inf:
        raise ValueError(f"group {group.names!r} trains at lr={group.lr}: it needs one above 0, or mode='frozen'")


def _matches(names: Sequence[str], groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """The names of each group: those that it is the first to match."""
    for group in groups:
        if not any(fnmatchcase(name, group.names) for name in names):
            stems = {".".join(name.split(".")[:depth]) + ".*" for name in names for depth in (1, 2, 3)}
            near = closest(group.names, [*stems, *names])
            raise ValueError(f"no parameter is called {group.names!r}; the closest names are {near}")
    first = {
        name: next((number for number, group in enumerate(groups) if fnmatchcase(name, group.names)), None)
        for name in names
    }
    return [tuple(name for name in names if first[name] == number) for number in range(len(groups))]


def _layers(family: nn.Module, group: Group, names: Sequence[str]) -> tuple[str, ...]:
    """Layers of a group that get low-rank updates."""
    if group.lora is None:
        return ()
    owners = sorted({name.rpartition(".")[0] for name in names})
    ends = tuple(f".{target}" for target in group.lora.targets)
    layers = tuple(owner for owner in owners if f".{owner}".endswith(ends))
    if not layers:
        known = {name.rpartition(".")[2] for name in owners if isinstance(family.get_submodule(name), nn.Linear)}
        raise ValueError(
            f"group {group.names!r} has no layer called {', '.join(group.lora.targets)}; "
            f"its linear layers are called {', '.join(sorted(known)) or 'nothing: it has none'}"
        )
    return layers


def _inject(family: nn.Module, updates: Mapping[str, Lora]) -> None:
    """Put updates into layers, all at once, as peft knows one configuration of a model."""
    if not updates:
        return
    ensure_torchvision()
    from peft import LoraConfig, inject_adapter_in_model

    usual = next(iter(updates.values()))
    others = {f"^{re.escape(layer)}": lora for layer, lora in updates.items() if _scale(lora) != _scale(usual)}
    config = LoraConfig(
        r=usual.rank,
        lora_alpha=usual.alpha,
        target_modules="|".join(map(re.escape, updates)),
        rank_pattern={layer: lora.rank for layer, lora in others.items()},  # tried one after another for every layer
        alpha_pattern={layer: lora.alpha for layer, lora in others.items()},
    )
    inject_adapter_in_model(config, family)


def _scale(lora: Lora) -> tuple[int, float]:
    return lora.rank, lora.alpha


def _updates(family: nn.Module, layers: Sequence[str]) -> tuple[str, ...]:
    """Names of the parameters of layers' low-rank updates."""
    return tuple(
        f"{layer}.{name}"
        for layer in layers
        for name, _ in family.get_submodule(layer).named_parameters()
        if name.startswith("lora_")
    )


def _free(family: nn.Module, names: Collection[str]) -> None:
    """Let these parameters train, in float32, and no others."""
    for name, parameter in family.named_parameters():
        parameter.requires_grad_(name in names)
        if name in names:
            parameter.data = parameter.data.float()
