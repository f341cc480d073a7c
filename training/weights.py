"""Pretrained parts, by transformers' and diffusers' classes: from a local folder, or from the hub at a revision."""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from training.torchvision_compat import ensure_torchvision

_COMMIT = re.compile("[0-9a-f]{40}")
T = TypeVar("T")
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

    @property
    def key(self) -> str:
        """What it is called where its commit is kept."""
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


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
        raise absence(weights, _first_line(error)) from error


def absence(weights: Weights, reason: str) -> OSError:
    """The error that something is not there, which says where it was looked for, and the remedy."""
    return OSError(f"{_where(weights)}: {reason}; {_remedy(weights)}")


def bases(config: object, path: str = "") -> Iterator[tuple[str, Weights]]:
    """The published weights that a family's configuration names, each with the field that names it."""
    if isinstance(config, Weights):
        yield path, config
    elif isinstance(config, tuple):
        for part in config:
            yield from bases(part, path)
    elif is_dataclass(config) and not isinstance(config, type):
        for field in fields(config):
            yield from bases(getattr(config, field.name), f"{path}.{field.name}" if path else field.name)


def pinned(config: T, revisions: Mapping[str, str]) -> T:
    """The configuration with every model of the hub at its commit, where ``revisions`` has that by its key."""
    if isinstance(config, Weights):
        return replace(config, revision=revisions.get(config.key, config.revision))
    if isinstance(config, tuple):
        return cast(T, tuple(pinned(part, revisions) for part in config))
    if is_dataclass(config) and not isinstance(config, type):
        parts = {field.name: getattr(config, field.name) for field in fields(config)}
        return replace(config, **{name: pinned(part, revisions) for name, part in parts.items()})
    return config


def cached_revisions(config: object) -> dict[str, str]:
    """The commits of a configuration's models of the hub, by :attr:`Weights.key`, as this machine's cache has them.

    Those are what is loaded where there is no network. The hub is asked nothing: what is not in the cache is left out.

    Source: "Understand caching", huggingface_hub's documentation: ``refs`` holds a commit's hash by branch or tag.
    """
    named = (weights for _, weights in bases(config) if not Path(weights.name).is_dir())
    return {weights.key: commit for weights in named if (commit := cached_commit(weights)) is not None}


def cached_commit(weights: Weights) -> str | None:
    """The commit that a model of the hub is at in this machine's cache; ``None`` if it is not there."""
    if _COMMIT.fullmatch(weights.revision or ""):
        return weights.revision
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=weights.name, repo_type="model")
    ref = folder / "refs" / (weights.revision or constants.DEFAULT_REVISION)
    return ref.read_text().strip() if ref.is_file() else None


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
    revision = f" --revision {weights.revision}" if weights.revision else ""
    return (
        f"download it once with `hf download {weights.name}{revision}` where there is a network, "
        "or name a local folder in the recipe"
    )
