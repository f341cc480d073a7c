"""CLIP as transformers has it, from the hub or a folder; safetensors only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from stages.base import ModelRef
from stages.models.clip_pixels import ClipPixels
from stages.models.pretrained import load_pretrained
from stages.models.torchvision_compat import ensure_torchvision
from stages.models.weights import locate, unreadable

ensure_torchvision()

from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer  # noqa: E402

_LEGACY_EOS = 2
"""Configs that say so pool at the highest token id of the text, whichever it is (transformers before 4.31)."""


@dataclass(frozen=True, slots=True)
class HfClip:
    """CLIP. Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision"."""

    model: CLIPModel
    tokenizer: CLIPTokenizer
    canvas: ClipPixels

    @property
    def logit_scale(self) -> float:
        """The exponential of the parameter of that name."""
        return float(self.model.logit_scale.exp())

    @property
    def length(self) -> int:
        """Tokens of the text encoder's input, begin and end among them."""
        config: Any = self.model.config.text_config
        return int(config.max_position_embeddings)

    def fits(self, text: str) -> bool:
        """Whether it has at most :attr:`length` tokens."""
        return len(self.tokenizer(text, verbose=False).input_ids) <= self.length

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Ids with begin and end, filled up with the tokenizer's padding, which the end keeps out of sight."""
        found = self.tokenizer(list(texts), padding="max_length", max_length=self.length, return_tensors="pt")
        ids: Tensor = found.input_ids
        return ids

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Projected vectors."""
        vectors: Tensor = self.model.get_image_features(pixel_values=pixels).pooler_output
        return vectors

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Projected vectors."""
        vectors: Tensor = self.model.get_text_features(input_ids=tokens).pooler_output
        return vectors


def load_hf_clip(ref: ModelRef, device: str, processor: ModelRef | None = None) -> HfClip:
    """A network from the hub or a folder, in evaluation mode, float32.

    Args:
        ref: Bundled model, folder or hub id.
        device: Where it goes.
        processor: Where tokenizer and image preprocessing are, if not beside the weights.

    Raises:
        ValueError: If something is not there, damaged, no safetensors, of another architecture, or unfit for the rest.
    """
    model = load_pretrained(CLIPModel, ref, device, ("clip",))
    tokenizer, canvas = load_tokenizer(processor or ref), load_canvas(processor or ref)
    network = HfClip(model, tokenizer, canvas)
    _check_tokenizer(network, processor or ref)
    if canvas.side != model.config.vision_config.image_size:
        seen = model.config.vision_config.image_size
        raise ValueError(
            f"{(processor or ref).name!r} prepares squares of {canvas.side} pixels, {ref.name!r} sees {seen}"
        )
    return network


def load_tokenizer(ref: ModelRef) -> CLIPTokenizer:
    """CLIP's tokenizer from the hub or a folder.

    Raises:
        ValueError: If it is not there.
    """
    try:
        found: CLIPTokenizer = CLIPTokenizer.from_pretrained(locate(ref), revision=ref.revision or "main")
        if len(found) <= len(found.all_special_ids):  # what transformers makes of missing files
            raise FileNotFoundError("it needs tokenizer.json, or vocab.json and merges.txt")
    except OSError as error:
        raise unreadable(ref, f"no tokenizer in {ref.name!r}", error) from error
    return found


def load_canvas(ref: ModelRef) -> ClipPixels:
    """The preprocessing that a ``preprocessor_config.json`` on the hub or in a folder describes.

    Raises:
        ValueError: If it is not there, or describes what CLIP does not do.
    """
    try:
        found = CLIPImageProcessorPil.from_pretrained(locate(ref), revision=ref.revision or "main")
    except OSError as error:
        raise unreadable(ref, f"no preprocessor_config.json in {ref.name!r}", error) from error
    return _canvas(found, str(ref.name))


def _canvas(found: CLIPImageProcessorPil, name: str) -> ClipPixels:
    crop, size = found.crop_size, found.size
    steps = found.do_resize, found.do_center_crop, found.do_rescale, found.do_normalize
    if not all(steps) or crop["height"] != crop["width"] or not size.get("shortest_edge"):
        raise ValueError(f"the preprocessor of {name!r} does not resize the short side, cut a square and normalise")
    return ClipPixels(
        side=crop["height"],
        resized=size["shortest_edge"],
        resample=Image.Resampling(found.resample),
        mean=tuple(found.image_mean),
        std=tuple(found.image_std),
    )


def _check_tokenizer(network: HfClip, ref: ModelRef) -> None:
    """Refuse a vocabulary that is not the network's: it would give vectors, and wrong ones."""
    text: Any = network.model.config.text_config
    tokenizer = network.tokenizer
    end = text.vocab_size - 1 if text.eos_token_id == _LEGACY_EOS else text.eos_token_id
    if len(tokenizer) > text.vocab_size or tokenizer.eos_token_id != end:
        raise ValueError(
            f"the tokenizer of {ref.name!r} has {len(tokenizer)} tokens and ends texts with {tokenizer.eos_token_id}; "
            f"the network knows {text.vocab_size} and expects {end}"
        )
