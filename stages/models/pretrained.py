"""Networks of transformers and diffusers, from a folder or the hub: safetensors only, whole, and of the right kind."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from stages.base import ModelRef
from stages.models.weights import locate, unreadable


def load_pretrained(
    loader: Any,
    ref: ModelRef,
    device: str,
    types: Collection[str],
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Any:
    """A network in evaluation mode, frozen.

    Args:
        loader: A model class of transformers or diffusers.
        ref: Bundled model, folder or hub id. Where ``files`` are all in one folder of a hub repository, it is there.
        device: Where it goes.
        types: The ``model_type`` or, of diffusers, ``_class_name`` that its config.json may say; empty: any.
        dtype: Of its weights; ``None``: float32.
        options: What the class takes besides its config.

    Raises:
        ValueError: If it is not there, damaged, no safetensors, of another architecture, or lacks weights.
    """
    where, revision = locate(ref), ref.revision or "main"
    folder = subfolder(ref)
    inside = {"subfolder": folder} if folder else {}
    what = f"cannot load {loader.__name__} {ref.name!r}" + (f", revision {revision}" if ref.revision else "")
    _hide_bars()
    with _told(what, ref):
        name, kind = _kind(loader, where, revision=revision, **inside)
        if types and kind not in types:
            raise ValueError(f"its config.json says {name} {kind!r}, not {' or '.join(types)}")
        model, report = loader.from_pretrained(
            where,
            revision=revision,
            use_safetensors=True,
            output_loading_info=True,
            dtype=dtype or torch.float32,
            **inside,
            **options,
        )
    if report["missing_keys"]:
        raise ValueError(f"{what}: its weights lack {', '.join(sorted(report['missing_keys'])[:3])} …")
    return model.eval().requires_grad_(False).to(device)


def read_settings(ref: ModelRef, name: str) -> Mapping[str, Any]:
    """A JSON file of a model, such as ``preprocessor_config.json``.

    Raises:
        ValueError: If it is not there, or is no JSON of names and values.
    """
    from transformers.utils.hub import cached_file

    where = locate(ref)
    with _told(f"cannot read {name} of {ref.name!r}", ref):
        path = cached_file(where, name, revision=ref.revision or "main")
        settings = json.loads(Path(str(path)).read_text(encoding="utf-8"))
        if not isinstance(settings, Mapping):
            raise ValueError("it is no JSON of names and values")
    return settings


def _hide_bars() -> None:
    """Many workers load at once, and their bars would run into each other and into our own progress."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def _told(what: str, ref: ModelRef) -> Iterator[None]:
    """Turn the many ways in which a model cannot be read into one, and tell of one that is not here how to get it."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise unreadable(ref, what, error) from error


def subfolder(ref: ModelRef) -> str:
    """The folder of a hub repository that all needed files are in, such as ``vae``; empty if that is not one."""
    folders = {pattern.rpartition("/")[0] for pattern in ref.files}
    return folders.pop() if len(folders) == 1 else ""


def _kind(loader: Any, where: str, **place: str) -> tuple[str, str | None]:
    """What a config.json says the network is, and by which name it says it."""
    if hasattr(loader, "config_class"):
        config, _ = loader.config_class.get_config_dict(where, **place)
        return "model_type", config.get("model_type")
    return "_class_name", loader.load_config(where, **place).get("_class_name")
