"""Low-rank updates as peft writes them, or merged into the weights that they update."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file
from torch import nn

from training.export.parts import Part, find_parts
from training.torchvision_compat import ensure_torchvision

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

_ADAPTER = "default"
"""The name that peft gives an adapter by default."""


def write_adapter(part: Part, folder: Path, base: str | None) -> None:
    """Write an adapter as ``PeftModel.from_pretrained`` reads it.

    Args:
        part: The adapter.
        folder: That it is written to; must be there.
        base: Name of the weights that it updates, if they have one.
    """
    from peft import LoraConfig

    layers = _layers(part.module)
    ranks = {name: layer.r[_ADAPTER] for name, layer in layers.items()}
    alphas = {name: layer.lora_alpha[_ADAPTER] for name, layer in layers.items()}
    rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
    LoraConfig(
        r=rank,
        lora_alpha=alpha,
        rank_pattern={name: value for name, value in ranks.items() if value != rank},
        alpha_pattern={name: value for name, value in alphas.items() if value != alpha},
        target_modules=sorted(layers),
        base_model_name_or_path=base,
        inference_mode=True,
    ).save_pretrained(str(folder))
    tensors = {
        f"base_model.model.{name.replace(f'.{_ADAPTER}.', '.')}": value.contiguous()
        for name, value in part.tensors().items()
    }
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


def merge_mixed(family: nn.Module, is_published: Callable[[Part], bool]) -> None:
    """Merge low-rank updates wherever more than these trains, or what they update is published nowhere.

    No adapter could hold the rest, or be put upon anything.
    """
    for part in find_parts(family):
        is_baseless = part.kind == "adapter" and not is_published(part)
        if is_baseless or part.kind in ("model", "module"):
            merge(part.module)


def merge(module: nn.Module) -> None:
    """Add low-rank updates to the weights that they update, which then count as trained, and take them out."""
    for name, layer in _layers(module).items():
        parent, _, key = name.rpartition(".")
        layer.merge()
        base = layer.get_base_layer().requires_grad_(True)
        setattr(module.get_submodule(parent), key, base)


def _layers(module: nn.Module) -> dict[str, "LoraLayer"]:
    ensure_torchvision()
    from peft.tuners.lora import LoraLayer

    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLayer)}
