"""More than vectors from CLIP: the states of its tokens, of words and of picture patches, by either library.

Layers are counted from the end: -1 is the last. Text states of the last layer are those after the final norm, all
others are bare, as users of CLIP take them; tokens of pictures are bare in every layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stages.embed_params import EmbedParams
from stages.models.clip_hf import HfClip, load_hf_clip
from stages.models.clip_open import OpenClip, load_open_clip
from stages.models.encoder import Network
from stages.models.tokens import Tokens, hub_ids
from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from open_clip.tokenizer import SimpleTokenizer  # type: ignore[import-untyped]  # noqa: E402


@dataclass(frozen=True, slots=True)
class HfText:
    """The text half of transformers' CLIP."""

    model: Any
    layer: int

    def __call__(self, given: Tensor) -> Mapping[str, Tensor]:
        """``states``, (text, token, channel), and ``pooled``, that at the text's end, projected, (text, channel)."""
        found = self.model.text_model(input_ids=given[:, 0], output_hidden_states=True)
        states = found.last_hidden_state if self.layer == -1 else found.hidden_states[self.layer]
        return {"states": states, "pooled": self.model.text_projection(found.pooler_output)}


@dataclass(frozen=True, slots=True)
class HfImage:
    """The picture half of transformers' CLIP."""

    clip: HfClip
    layer: int

    def __call__(self, given: Tensor) -> Mapping[str, Tensor]:
        """``tokens``, that of the class first, (picture, token, channel), and ``vector``, projected."""
        pixels, model = self.clip.canvas.normalise(given), self.clip.model
        found = model.vision_model(pixel_values=pixels, output_hidden_states=True)
        hidden = found.hidden_states
        assert hidden is not None
        return {"tokens": hidden[self.layer], "vector": model.visual_projection(found.pooler_output)}


@dataclass(frozen=True, slots=True)
class OpenText:
    """The text half of open_clip's networks."""

    model: Any
    layer: int

    def __call__(self, given: Tensor) -> Mapping[str, Tensor]:
        """As :class:`HfText`."""
        found = self.model.forward_intermediates(
            text=given[:, 0], text_indices=-self.layer, normalize=False, normalize_intermediates=self.layer == -1
        )
        return {"states": found["text_intermediates"][0], "pooled": found["text_features"]}


@dataclass(frozen=True, slots=True)
class OpenImage:
    """The picture half of open_clip's networks."""

    clip: OpenClip
    layer: int

    def __call__(self, given: Tensor) -> Mapping[str, Tensor]:
        """As :class:`HfImage`; without a class token where the network has none."""
        found = self.clip.model.forward_intermediates(
            image=self.clip.canvas.normalise(given),
            image_indices=-self.layer,
            normalize=False,
            image_output_fmt="NLC",
            image_output_extra_tokens=True,
        )
        prefix = found.get("image_intermediates_prefix")
        patches = found["image_intermediates"][0]
        tokens = patches if prefix is None else torch.cat([prefix[0], patches], 1)
        return {"tokens": tokens, "vector": found["image_features"]}


def load_clip(params: EmbedParams, device: str) -> HfClip | OpenClip:
    """A CLIP in the form of the library that the parameters name.

    Raises:
        ValueError: If it is not there, damaged, or of another architecture.
    """
    if params.library == "transformers":
        return load_hf_clip(params.ref, device)
    return load_open_clip(params.architecture, params.ref, device)


def text_half(clip: HfClip | OpenClip, layer: int) -> tuple[Network, Tokens]:
    """A CLIP's text half, and how it takes texts.

    Raises:
        ValueError: If it has no such layer.
    """
    if isinstance(clip, HfClip):
        _check_layer(layer, len(clip.model.text_model.encoder.layers))
        pad = clip.tokenizer.pad_token_id
        return HfText(clip.model, layer), Tokens(tokenize=hub_ids(clip.tokenizer), pad=pad, length=clip.length)
    _check_layer(layer, _blocks(clip.model) or _blocks(getattr(clip.model, "text", None)))
    return OpenText(clip.model, layer), _open_tokens(clip.tokenizer)


def image_half(clip: HfClip | OpenClip, layer: int) -> Network:
    """A CLIP's picture half, which takes squares that its canvas drew.

    Raises:
        ValueError: If it has no such layer.
    """
    if isinstance(clip, HfClip):
        _check_layer(layer, len(clip.model.vision_model.encoder.layers))
        return HfImage(clip, layer)
    _check_layer(layer, _blocks(clip.model.visual))
    return OpenImage(clip, layer)


def _blocks(half: Any) -> int:
    """How many blocks one of open_clip's transformers has; 0 where it is none of its own."""
    return len(getattr(getattr(half, "transformer", None), "resblocks", ()))


def _check_layer(layer: int, layers: int) -> None:
    if -layer > layers > 0:
        raise ValueError(f"layer {layer} is none of the network's, which has {layers}")


def _open_tokens(tokenizer: Any) -> Tokens:
    length = int(tokenizer.context_length)
    if isinstance(tokenizer, SimpleTokenizer):
        begin, end = tokenizer.sot_token_id, tokenizer.eot_token_id
        return Tokens(tokenize=lambda text: [begin, *tokenizer.encode(text), end], pad=0, length=length)
    if getattr(tokenizer, "tokenizer_mode", "") == "clips":
        raise ValueError(
            "tokenizers in open_clip's mode 'clips' are not supported for states; use library transformers"
        )
    ids = hub_ids(tokenizer.tokenizer)
    return Tokens(
        tokenize=lambda text: ids(tokenizer.clean_fn(text)), pad=tokenizer.tokenizer.pad_token_id or 0, length=length
    )
