"""Networks of transformers and diffusers, from a folder or the hub: safetensors only, whole, and of the right kind."""

from collections.abc import Collection
from typing import Any

import torch
from safetensors import SafetensorError

from stages.base import ModelRef
from stages.models.weights import absent, is_on_hub, locate


def load_pretrained(
    loader: Any, ref: ModelRef, device: str, types: Collection[str], dtype: torch.dtype | None = None
) -> Any:
    """A network in evaluation mode, frozen.

    Args:
        loader: A model class with ``from_pretrained``.
        ref: Bundled model, folder or hub id.
        device: Where it goes.
        types: The ``model_type`` that its config.json may say; empty: any.
        dtype: Of its weights; ``None``: float32.

    Raises:
        ValueError: If it is not there, damaged, no safetensors, of another architecture, or lacks weights.
    """
    where, revision = locate(ref), ref.revision or "main"
    what = f"cannot load {loader.__name__} {ref.name!r}" + (f", revision {revision}" if ref.revision else "")
    try:
        config, _ = loader.config_class.get_config_dict(where, revision=revision)
        if types and config.get("model_type") not in types:
            raise ValueError(f"its config.json says model_type {config.get('model_type')!r}, not {' or '.join(types)}")
        model, report = loader.from_pretrained(
            where, revision=revision, use_safetensors=True, output_loading_info=True, dtype=dtype or torch.float32
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        cause = " ".join(str(error).split())[:300]
        if isinstance(error, OSError) and is_on_hub(ref):
            raise ValueError(absent(ref, f"or not whole, and the hub does not give it ({cause})")) from error
        raise ValueError(f"{what}: {cause}") from error
    if report["missing_keys"]:
        raise ValueError(f"{what}: its weights lack {', '.join(sorted(report['missing_keys'])[:3])} …")
    return model.eval().requires_grad_(False).to(device)
