"""Idefics2 without its perceiver as a reader: pictures of one size, each patch of which is a token.

Source: Laurençon et al. 2024, "What matters when building vision-language models?"; Berman and Peysakhovich 2024,
"MUMU", on its architecture, for what is taken away of it.
"""

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

_PAD, _START, _END, _FAKE, _PLACEHOLDER = "<unk>", "<s>", "</s>", "<fake_token_around_image>", "<image>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Idefics2Sizes:
    """Sizes of an Idefics2 with fresh weights, that reads bytes.

    Attributes:
        width: Of the states.
        layers: Of the language model.
        heads: Of its attention.
        key_heads: Of these, those with keys and values of their own.
        mlp_width: Inner width of its layers, and of the projection.
        vision_width: Of the vision transformer.
        vision_layers: Of it.
        vision_heads: Of its attention.
        vision_mlp_width: Inner width of its layers.
        patch: Side of its patches, pixels; each is a token.
        most: Largest side of a picture, pixels: patches are told their places as shares of it.
        words: Read as one token each.
    """

    width: int
    layers: int
    heads: int
    key_heads: int
    mlp_width: int
    vision_width: int
    vision_layers: int
    vision_heads: int
    vision_mlp_width: int
    patch: int
    most: int
    words: tuple[str, ...] = ()


IDEFICS2_8B = Idefics2Sizes(
    width=4096, layers=32, heads=32, key_heads=8, mlp_width=14336,
    vision_width=1152, vision_layers=27, vision_heads=16, vision_mlp_width=4304, patch=14, most=980,
)  # fmt: skip
"""Those of the published one, but for its vocabulary. Source: ``config.json`` of HuggingFaceM4/idefics2-8b."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Idefics2:
    """An Idefics2 reader.

    Attributes:
        source: Weights of an Idefics2, or sizes.
        side: Of pictures, pixels; a multiple of a patch. 252 makes 324 tokens, 504 makes 1296.
        max_tokens: Of a prompt. Ours: four pictures of 324 tokens, or one of 1296, and 700 tokens of text.
    """

    source: Weights | Idefics2Sizes
    side: int = 252
    max_tokens: int = 2048

    def build(self, load: bool = True) -> Mllm:
        """The reader.

        Raises:
            OSError: If weights are not there.
            ValueError: If they are of another model, or the side does not fit its patches.
        """
        parts = _fresh(self.source) if isinstance(self.source, Idefics2Sizes) else _pretrained(self.source, load)
        network = Idefics2Network(parts.network)
        form = PictureForm(side=self.side, mean=parts.mean, deviation=parts.deviation)
        return Mllm(network, self._layout(parts.tokenizer, network), form)

    def _layout(self, tokenizer: Any, network: "Idefics2Network") -> Layout:
        """As ``Idefics2Processor`` writes pictures that are not split: between fake tokens, text a space behind.

        Only text that begins with a line break or ``<`` right behind a picture has one space more than there.
        """
        (fake,) = tokenizer.convert_tokens_to_ids([_FAKE])
        return Layout(
            tokenizer=tokenizer,
            start=(tokenizer.bos_token_id,),
            opening=(fake,),
            placeholder=network.model.config.image_token_id,
            closing=(fake,),
            tokens_per_image=network.tokens_of(self.side),
            max_tokens=self.max_tokens,
            gap=" ",
            is_shared=True,
        )


class Idefics2Network(nn.Module):
    """The model without its head."""

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
        embedded = self.model.get_input_embeddings()(ids)
        if len(pictures):
            is_picture = (ids == self.model.config.image_token_id)[:, :, None]
            embedded = embedded.masked_scatter(is_picture, self._seen(pictures).to(embedded.dtype))
        states: Tensor = self.model.text_model(
            inputs_embeds=embedded, attention_mask=mask.long(), use_cache=False
        ).last_hidden_state
        return states

    def blocks(self) -> Sequence[nn.Module]:
        """Layers of the language model: what reads pictures does not run where there are none."""
        return tuple(self.model.text_model.layers)

    def tokens_of(self, side: int) -> int:
        """Tokens of a square picture. Raises ``ValueError`` if the side is no multiple of a token's, or too large."""
        vision = self.model.config.vision_config
        if side < vision.patch_size or side % vision.patch_size or side > vision.image_size:
            raise ValueError(
                f"side must be a multiple of {vision.patch_size}, which is a token of this model, up to "
                f"{vision.image_size}, got {side}"
            )
        return int((side // vision.patch_size) ** 2)

    def _seen(self, pictures: Float[Tensor, "picture 3 side side"]) -> Float[Tensor, "picture patch state"]:
        """Pictures as tokens of the language model.

        Past the model's own method, which takes a picture of zeros for padding and leaves it out; here all are whole.
        """
        patches = pictures.shape[-1] // self.model.config.vision_config.patch_size
        is_there = torch.ones(len(pictures), patches, patches, dtype=torch.bool, device=pictures.device)
        states = self.model.vision_model(pixel_values=pictures, patch_attention_mask=is_there).last_hidden_state
        seen: Tensor = self.model.connector(states)
        return seen


def _pretrained(weights: Weights, load: bool) -> Parts:
    ensure_torchvision()
    from transformers import Idefics2ImageProcessorPil

    from training.encoders.idefics2_model import Idefics2WithoutPerceiver

    return pretrained_parts(
        Idefics2WithoutPerceiver, Idefics2ImageProcessorPil, weights, types=("idefics2",), load=load
    )


def _fresh(sizes: Idefics2Sizes) -> Parts:
    from training.encoders.idefics2_model import Idefics2WithoutPerceiver

    tokenizer = byte_tokenizer((_PAD, _START, _END, _FAKE, _PLACEHOLDER), sizes.words, start=_START)
    return Parts(
        network=Idefics2WithoutPerceiver.from_config(_config(sizes, tokenizer)),
        tokenizer=tokenizer,
        mean=(0.5, 0.5, 0.5),
        deviation=(0.5, 0.5, 0.5),
    )


def _config(sizes: Idefics2Sizes, tokenizer: Any) -> Any:
    from transformers import Idefics2Config

    pad, start, end, _, placeholder = tokenizer.convert_tokens_to_ids([_PAD, _START, _END, _FAKE, _PLACEHOLDER])
    return Idefics2Config(
        vision_config={
            "hidden_size": sizes.vision_width,
            "intermediate_size": sizes.vision_mlp_width,
            "num_hidden_layers": sizes.vision_layers,
            "num_attention_heads": sizes.vision_heads,
            "image_size": sizes.most,
            "patch_size": sizes.patch,
        },
        perceiver_config={"hidden_size": sizes.width, "resampler_n_latents": 1, "resampler_depth": 1},
        text_config={
            "model_type": "mistral",
            "hidden_size": sizes.width,
            "intermediate_size": sizes.mlp_width,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.key_heads,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 32768,
            "sliding_window": None,
            "bos_token_id": start,
            "eos_token_id": end,
            "pad_token_id": pad,
        },
        image_token_id=placeholder,
    )
