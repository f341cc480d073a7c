"""Where a model's weights are and which they are, told without loading them."""

import hashlib
from functools import cache
from pathlib import Path

from manifests.record import ModelUse


def model_use(model: str | None, revision: str | None) -> ModelUse:
    """The model a manifest names: a folder or file, known by a hash of its bytes, or a hub id with its revision.

    Raises:
        ValueError: If no model is named, a hub id has no revision, or hub access is off and the model is not in the
            hub's cache.
    """
    if not model:
        raise ValueError("no model: set model to a hub id, a folder or a checkpoint file")
    if Path(model).exists():
        return ModelUse(name=model, revision=_digest(Path(model).absolute()))
    if revision is None or model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise ValueError(
            f"no model {model!r}: there is no {Path(model).absolute()}; give a folder that is there, or a hub id "
            "(owner/name) with its revision"
        )
    _check_cache(model, revision)
    return ModelUse(name=model, revision=revision)


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
