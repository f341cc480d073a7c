"""Qwen2.5-VL and Qwen3-VL as readers: pictures of one size, so that each takes the same number of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from training.encoders.byte_tokenizer import byte_tokenizer
from training.encoders.layout import Layout
from training.encoders.mllm import Mllm, PictureForm
from training.encoders.pretrained import Parts, pretrained_parts
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights

_START, _OPENING, _PLACEHOLDER, _CLOSING = "<|endoftext|>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"
_VIDEO = "<|video_pad|>"
_TYPES = ("qwen2_5_vl", "qwen3_vl")


@dataclass(frozen=True, slots=True, kw_only=True)
class QwenVlSizes:
    """Sizes of a Qwen2.5-VL with fresh weights, that reads bytes.

    Attributes:
        width: Of the states.
        layers: Of the language model.
        heads: Of both transformers.
        vision_width: Of the vision transformer.
        vision_layers: Of it.
        patch: Side of its patches, pixels; 2 x 2 of them make a token.
        words: Read as one token each.
    """

    width: int
    layers: int
    heads: int
    vision_width: int
    vision_layers: int
    patch: int
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QwenVl:
    """A Qwen-VL reader.

    UNIMO-G's own model is not public; this is ours, as is the choice of the start token, which gives an empty prompt a
    state.

    Attributes:
        source: Weights of a Qwen2.5-VL or Qwen3-VL, or sizes.
        side: Of pictures, pixels; a multiple of two patches. 168 makes 36 tokens in Qwen2.5-VL, near the paper's 32.
        max_tokens: Of a prompt.
    """

    source: Weights | QwenVlSizes
    side: int = 168
    max_tokens: int = 512

    def build(self, load: bool = True) -> Mllm:
        """The reader.

        Raises:
            OSError: If weights are not there.
            ValueError: If they are of another model, or the side does not fit its patches.
        """
        parts = _fresh(self.source) if isinstance(self.source, QwenVlSizes) else _pretrained(self.source, load)
        network = QwenVlNetwork(parts.network)
        form = PictureForm(side=self.side, mean=parts.mean, deviation=parts.deviation)
        return Mllm(network, self._layout(parts.tokenizer, network), form)

    def _layout(self, tokenizer: Any, network: "QwenVlNetwork") -> Layout:
        start, opening, placeholder, closing = tokenizer.convert_tokens_to_ids(
            [_START, _OPENING, _PLACEHOLDER, _CLOSING]
        )
        return Layout(
            tokenizer=tokenizer,
            start=(start,),
            opening=(opening,),
            placeholder=placeholder,
            closing=(closing,),
            tokens_per_image=network.tokens_of(self.side),
            max_tokens=self.max_tokens,
        )


class QwenVlNetwork(nn.Module):
    """Either of the models, without its head."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.width: int = model.config.text_config.hidden_size

    def forward(
        self,
        ids: Int[Tensor, "prompt token"],
        mask: Bool[Tensor, "prompt token"],
        pictures: Float[Tensor, "picture 3 side side"],
    ) -> Float[Tensor, "prompt token state"]:
        """States after the last layer."""
        pixels = {"pixel_values": self._patches(pictures), "image_grid_thw": self._grid(pictures)}
        return self.model(
            input_ids=ids,
            attention_mask=mask.long(),
            mm_token_type_ids=(ids == self.model.config.image_token_id).int(),
            use_cache=False,
            **(pixels if len(pictures) else {}),
        ).last_hidden_state

    def blocks(self) -> Sequence[nn.Module]:
        """Layers of the language model: what reads pictures does not run where there are none."""
        return tuple(self.model.language_model.layers)

    def tokens_of(self, side: int) -> int:
        """Tokens of a square picture. Raises ``ValueError`` if the side is no multiple of a token's."""
        vision = self.model.config.vision_config
        pixels = vision.patch_size * vision.spatial_merge_size
        if side < pixels or side % pixels:
            raise ValueError(f"side must be a multiple of {pixels}, which is a token of this model, got {side}")
        return (side // pixels) ** 2

    def _grid(self, pictures: Float[Tensor, "picture 3 side side"]) -> Int[Tensor, "picture 3"]:
        """Of each picture its frames, and patches down and across."""
        patches = pictures.shape[-1] // self.model.config.vision_config.patch_size
        return torch.tensor([[1, patches, patches]], device=pictures.device).repeat(len(pictures), 1)

    def _patches(self, pictures: Float[Tensor, "picture 3 side side"]) -> Float[Tensor, "patch value"]:
        """Patches in the model's order: those of a token beside each other; a still picture is a film of two frames."""
        vision = self.model.config.vision_config
        patch, merge, frames = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
        split = pictures.unflatten(3, (-1, merge, patch)).unflatten(2, (-1, merge, patch))
        ordered = split.permute(0, 2, 5, 3, 6, 1, 4, 7)[:, :, :, :, :, :, None]
        filmed = ordered.expand(*ordered.shape[:6], frames, patch, patch)
        return filmed.reshape(-1, pictures.shape[1] * frames * patch * patch)


def _pretrained(weights: Weights, load: bool) -> Parts:
    ensure_torchvision()
    from transformers import AutoModel, Qwen2VLImageProcessorPil

    return pretrained_parts(AutoModel, Qwen2VLImageProcessorPil, weights, types=_TYPES, load=load)


def _fresh(sizes: QwenVlSizes) -> Parts:
    ensure_torchvision()
    from transformers import Qwen2_5_VLModel

    special = (_START, _OPENING, _PLACEHOLDER, _CLOSING, _VIDEO)
    tokenizer = byte_tokenizer(special, sizes.words)
    return Parts(
        network=Qwen2_5_VLModel(_config(sizes, tokenizer)),
        tokenizer=tokenizer,
        mean=(0.5, 0.5, 0.5),
        deviation=(0.5, 0.5, 0.5),
    )


def _config(sizes: QwenVlSizes, tokenizer: Any) -> Any:
    from transformers import Qwen2_5_VLConfig

    half = sizes.width // sizes.heads // 2
    sections = [half - 2 * (half // 3), half // 3, half // 3]
    start, opening, placeholder, closing, video = tokenizer.convert_tokens_to_ids(
        [_START, _OPENING, _PLACEHOLDER, _CLOSING, _VIDEO]
    )
    return Qwen2_5_VLConfig(
        vision_config={
            "depth": sizes.vision_layers,
            "hidden_size": sizes.vision_width,
            "intermediate_size": 3 * sizes.vision_width,
            "num_heads": sizes.heads,
            "out_hidden_size": sizes.width,
            "patch_size": sizes.patch,
            "window_size": 8 * sizes.patch,
            "fullatt_block_indexes": [sizes.vision_layers - 1],
        },
        text_config={
            "hidden_size": sizes.width,
            "intermediate_size": 3 * sizes.width,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.heads,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": sections},
            "bos_token_id": start,
            "eos_token_id": start,
            "pad_token_id": start,
        },
        image_token_id=placeholder,
        video_token_id=video,
        vision_start_token_id=opening,
        vision_end_token_id=closing,
    )
