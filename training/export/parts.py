"""The parts of a family as others load them: whole models of diffusers and transformers, and modules of ours."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from torch import Tensor, nn

from training.fit.groups import LORA

Kind: TypeAlias = Literal["model", "adapter", "module", "loose"]
"""A model of diffusers or transformers; low-rank updates; a module of ours; what such a module holds beside models."""


@runtime_checkable
class Saveable(Protocol):
    """A model of diffusers or transformers."""

    def save_pretrained(self, save_directory: str) -> object:
        """Write its configuration and its weights, as safetensors."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a family.

    Attributes:
        name: Its path in the family: ``unet``, ``autoencoder.network``.
        module: Itself.
        kind: How it is written.
        is_trained: Whether training moved any of it.
    """

    name: str
    module: nn.Module
    kind: Kind
    is_trained: bool

    @property
    def folder(self) -> str:
        """Of an export, that it is written to."""
        return self.name.replace(".", "_")

    def tensors(self) -> dict[str, Tensor]:
        """What of it is written: its state; of an adapter the updates alone, of loose ones those it holds itself."""
        state: dict[str, Tensor] = self.module.state_dict()
        match self.kind:
            case "adapter":
                return {name: value for name, value in state.items() if LORA in f".{name}"}
            case "loose":
                return {name: value for name, value in state.items() if "." not in name}
            case _:
                return state


def find_parts(family: nn.Module) -> tuple[Part, ...]:
    """All parts of a family that hold weights, in its order.

    A part nothing of which trains but low-rank updates is an adapter. Where more of it trains, or what they update is
    published nowhere, merge the updates first: :func:`training.export.adapters.merge_mixed`.
    """
    return tuple(part for part in _walk("", family) if part.tensors())


def _walk(name: str, module: nn.Module) -> Iterator[Part]:
    has_models = any(isinstance(part, Saveable) for part in module.modules())
    if name and (isinstance(module, Saveable) or not has_models):
        yield Part(name, module, _kind(module), any(parameter.requires_grad for parameter in module.parameters()))
        return
    loose = list(module.parameters(recurse=False))
    yield Part(f"{name}.own" if name else "own", module, "loose", any(one.requires_grad for one in loose))
    for key, child in module.named_children():
        yield from _walk(f"{name}.{key}" if name else key, child)


def _kind(module: nn.Module) -> Kind:
    if is_adapted(module):
        return "adapter"
    return "model" if isinstance(module, Saveable) else "module"


def is_adapted(module: nn.Module) -> bool:
    """Whether low-rank updates, and nothing else of it, train."""
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    return bool(trained) and all(LORA in f".{name}" for name in trained)
