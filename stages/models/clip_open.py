"""CLIP and its kin as open_clip has them: any architecture, from a checkpoint file, a folder or the hub."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from stages.base import ModelRef
from stages.models.checkpoint import BROKEN
from stages.models.clip_pixels import ClipPixels
from stages.models.torchvision_compat import ensure_torchvision
from stages.models.weights import OPEN_CLIP_FILES, locate, unreadable

ensure_torchvision()

import open_clip  # type: ignore[import-untyped]  # noqa: E402
from open_clip.tokenizer import SimpleTokenizer  # type: ignore[import-untyped]  # noqa: E402

_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")


@dataclass(frozen=True, slots=True)
class OpenClip:
    """A network of open_clip. Source: Cherti et al. 2023, "Reproducible scaling laws"; ``open_clip_torch`` 3."""

    model: Any
    tokenizer: Any
    canvas: ClipPixels

    @property
    def logit_scale(self) -> float:
        """The exponential of the parameter of that name."""
        return float(self.model.logit_scale.exp())

    def fits(self, text: str) -> bool:
        """Whether the tokenizer would cut nothing off."""
        length: int = self.tokenizer.context_length
        if isinstance(self.tokenizer, SimpleTokenizer):
            return len(self.tokenizer.encode(text)) + 2 <= length
        ids = self.tokenizer.tokenizer(self.tokenizer.clean_fn(text), verbose=False).input_ids
        return len(ids) + (getattr(self.tokenizer, "tokenizer_mode", "") == "clips") <= length

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Ids as open_clip makes them."""
        ids: Tensor = self.tokenizer(list(texts))
        return ids

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Projected vectors."""
        vectors: Tensor = self.model.encode_image(pixels)
        return vectors

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Projected vectors."""
        vectors: Tensor = self.model.encode_text(tokens)
        return vectors


def load_open_clip(architecture: str | None, ref: ModelRef, device: str) -> OpenClip:
    """A network in evaluation mode, float32. Code in a checkpoint is refused, not run.

    Args:
        architecture: A name of open_clip's, such as ``ViT-bigG-14``; only with a checkpoint file, whose pictures are
            then prepared as OpenAI's CLIP does. A folder or hub repository says both in its ``open_clip_config.json``.
        ref: Checkpoint file (safetensors, or tensors that torch wrote), folder or hub id.
        device: Where it goes.

    Raises:
        ValueError: If it is not there, damaged, of another architecture, or a pickle of more than tensors.
    """
    where = Path(_fetch(ref))
    if where.is_file():
        name, file = _known(architecture, ref), str(where)
    else:
        name, file = f"local-dir:{where}", None
    try:
        model = open_clip.create_model(name, file, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(name)
    except BROKEN as error:
        raise ValueError(f"cannot load open_clip model {ref.name}: {' '.join(str(error).split())[:300]}") from error
    return OpenClip(model.eval().requires_grad_(False).to(device), tokenizer, _canvas(model, ref))


def _fetch(ref: ModelRef) -> str:
    """The file or folder; of a hub id, its folder in the hub's cache."""
    where = locate(ref)
    if Path(where).exists():
        return where
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(where, revision=ref.revision, allow_patterns=list(OPEN_CLIP_FILES))
    except OSError as error:
        raise unreadable(ref, f"cannot download {ref.name!r} at {ref.revision!r}", error) from error


def _known(architecture: str | None, ref: ModelRef) -> str:
    if not str(ref.name).endswith(_SUFFIXES):
        raise ValueError(f"{ref.name} is no checkpoint file: those end in {', '.join(_SUFFIXES)}")
    if architecture is None or architecture not in open_clip.list_models():
        raise ValueError(
            f"architecture {architecture!r} of {ref.name} is none of open_clip's: see open_clip.list_models(), or give "
            "a folder with an open_clip_config.json"
        )
    return architecture


def _canvas(model: Any, ref: ModelRef) -> ClipPixels:
    config = open_clip.get_model_preprocess_cfg(model)
    size = config["size"]
    width, height = (size, size) if isinstance(size, int) else tuple(size)
    if width != height or config["fill_color"]:
        raise ValueError(f"{ref.name} sees pictures of {width} x {height} on {config['fill_color']}: only squares on 0")
    return ClipPixels(
        side=width,
        fit=config["resize_mode"],
        resample=Image.Resampling.BILINEAR if config["interpolation"] == "bilinear" else Image.Resampling.BICUBIC,
        by="open_clip",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
