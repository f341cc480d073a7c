"""What a large network says of nothing at all: asked once on a machine, and kept in the cache of Inlay."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor

from manifests.files import write_atomically
from training.stream.options import cache_folder
from training.weights import Weights, cached_commit

_NAME = "vector"


def once(what: str, weights: Weights, ask: Callable[[], Tensor]) -> Tensor:
    """What ``ask`` gives, or gave before on this machine.

    It is kept by the commit of the hub's model, or by the sizes and times of a folder's files.

    Args:
        what: Folder of the cache.
        weights: Of the network that is asked.
        ask: Loads and asks it.

    Raises:
        OSError: If the weights are not there.
    """
    kept = _place(what, weights)
    if kept is not None and kept.exists():
        return load_file(kept)[_NAME]
    found = ask()
    if kept is not None:
        with suppress(OSError):  # no cache is a slower start, and no more
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, save({_NAME: found.contiguous()}))
    return found


def _place(what: str, weights: Weights) -> Path | None:
    """Where it is kept; ``None`` where it isn't known which weights these are."""
    identity = _identity(weights)
    if identity is None:
        return None
    digest = hashlib.sha256(repr((identity, weights.subfolder)).encode()).hexdigest()
    return cache_folder() / what / f"{digest[:32]}.safetensors"


def _identity(weights: Weights) -> object:
    folder = Path(weights.name)
    if not folder.is_dir():
        commit = cached_commit(weights)
        return None if commit is None else (weights.name, commit)
    files = sorted((folder / weights.subfolder).iterdir())
    stats = [(file.name, file.stat()) for file in files if file.suffix in (".safetensors", ".json")]
    return str(folder.resolve()), [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
