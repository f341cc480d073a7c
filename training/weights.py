"""Pretrained parts, by transformers' and diffusers' classes: from a local folder, or from the hub at a revision."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from training.torchvision_compat import ensure_torchvision

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where pretrained weights are.

    Attributes:
        name: A local folder, or an id on the hub.
        revision: Of the hub's repository; ``None``: its newest.
        subfolder: In the folder or repository.
    """

    name: str
    revision: str | None = None
    subfolder: str = ""


class Pretrained(Protocol[T_co]):
    """A class of transformers or diffusers."""

    def from_pretrained(self, name: str, **options: Any) -> T_co:
        """An instance with weights."""
        ...


def load_weights(loader: Pretrained[T_co], weights: Weights, **options: Any) -> T_co:
    """An instance with weights, which are read from safetensors alone.

    Raises:
        OSError: If they are not there; the message says where they were looked for, and the remedy.
    """
    options = {"use_safetensors": True, **options}
    _be_quiet()
    try:
        return loader.from_pretrained(weights.name, revision=weights.revision, subfolder=weights.subfolder, **options)
    except (OSError, ValueError) as error:
        raise OSError(f"{_where(weights)}: {_first_line(error)}; {_remedy(weights)}") from error


def _be_quiet() -> None:
    """Progress of loading is for people who watch, not for logs."""
    if not sys.stderr.isatty():
        ensure_torchvision()
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _where(weights: Weights) -> str:
    place = "the folder" if Path(weights.name).is_dir() else "the hub's"
    revision = f" at revision {weights.revision}" if weights.revision else ""
    return f"{place} {weights.name}{'/' + weights.subfolder if weights.subfolder else ''}{revision}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or repr(error)


def _remedy(weights: Weights) -> str:
    if Path(weights.name).is_dir():
        return "it must hold config.json and *.safetensors as save_pretrained writes them"
    return (
        f"download it once with `hf download {weights.name}` where there is a network, "
        "or name a local folder in the recipe"
    )
