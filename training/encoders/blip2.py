"""BLIP-2 as a reader, MiniGPT-4 style: a vision transformer, a Q-Former of few tokens a picture, any language model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from training.encoders.byte_tokenizer import byte_tokenizer
from training.encoders.layout import Layout, text_ids
from training.encoders.mllm import Mllm, PictureForm
from training.encoders.pretrained import Parts, pretrained_parts
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights

_OPENING, _CLOSING = "<img>", "</img>"
"""Around pictures, as text. Source: Zhu et al. 2023, "MiniGPT-4"; UNIMO-G, version 2, appendix."""

_SPECIAL = ("<pad>", "<s>", "</s>", "<image>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blip2Sizes:
    """Sizes of a BLIP-2 around a Llama with fresh weights, that reads bytes.

    Attributes:
        width: Of the states.
        layers: Of the language model.
        heads: Of all transformers.
        vision_width: Of the vision transformer and the Q-Former.
        vision_layers: Of each of the two.
        side: Of pictures, pixels.
        patch: Side of the patches, pixels.
        tokens_per_image: Queries of the Q-Former.
        words: Read as one token each.
    """

    width: int
    layers: int
    heads: int
    vision_width: int
    vision_layers: int
    side: int
    patch: int
    tokens_per_image: int
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Blip2:
    """A BLIP-2 reader: 32 tokens a picture in the published models, as in UNIMO-G.

    Attributes:
        source: Weights of a BLIP-2, whichever its language model, or sizes.
        max_tokens: Of a prompt.
    """

    source: Weights | Blip2Sizes
    max_tokens: int = 512

    def build(self, load: bool = True) -> Mllm:
        """The reader.

        Raises:
            OSError: If weights are not there.
            ValueError: If they are of another model.
        """
        parts = _fresh(self.source) if isinstance(self.source, Blip2Sizes) else _pretrained(self.source, load)
        network = Blip2Network(parts.network)
        side = parts.network.config.vision_config.image_size
        form = PictureForm(side=side, mean=parts.mean, deviation=parts.deviation)
        return Mllm(network, self._layout(parts.tokenizer, network), form)

    def _layout(self, tokenizer: Any, network: "Blip2Network") -> Layout:
        return Layout(
            tokenizer=tokenizer,
            start=_start(tokenizer),
            opening=text_ids(tokenizer, _OPENING),
            placeholder=network.placeholder,
            closing=text_ids(tokenizer, _CLOSING),
            tokens_per_image=network.tokens_per_image,
            max_tokens=self.max_tokens,
        )


class Blip2Network(nn.Module):
    """The model without its head; of an encoder-decoder, the encoder."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision = model.vision_model
        self.queries = model.query_tokens
        self.qformer = model.qformer
        self.project = model.language_projection
        self.language = _states_of(model)
        self.width: int = model.config.text_config.hidden_size
        self.placeholder: int = model.config.image_token_id
        self.tokens_per_image: int = model.config.num_query_tokens

    def forward(
        self,
        ids: Int[Tensor, "prompt token"],
        mask: Bool[Tensor, "prompt token"],
        pictures: Float[Tensor, "picture 3 side side"],
    ) -> Float[Tensor, "prompt token state"]:
        """States after the last layer."""
        embedded = self.language.get_input_embeddings()(ids)
        if len(pictures):
            seen = self._seen(pictures).to(embedded.dtype)
            embedded = embedded.masked_scatter((ids == self.placeholder)[:, :, None], seen)
        return self.language(inputs_embeds=embedded, attention_mask=mask.long()).last_hidden_state

    def blocks(self) -> Sequence[nn.Module]:
        """Layers of the language model: what reads pictures does not run where there are none."""
        stacks = [part for part in self.language.modules() if isinstance(part, nn.ModuleList)]
        return tuple(stacks[0])

    def _seen(self, pictures: Float[Tensor, "picture 3 side side"]) -> Float[Tensor, "picture token state"]:
        """Pictures as tokens of the language model."""
        patches = self.vision(pixel_values=pictures).last_hidden_state
        queries = self.queries.expand(len(pictures), -1, -1)
        answers = self.qformer(query_embeds=queries, encoder_hidden_states=patches).last_hidden_state
        return self.project(answers.to(self.project.weight.dtype))


def _states_of(model: Any) -> Any:
    """The part of the language model that gives states."""
    if model.config.use_decoder_only_language_model:
        return model.language_model.base_model
    return model.language_model.get_encoder()


def _start(tokenizer: Any) -> tuple[int, ...]:
    """The token that texts begin with, or for T5, which has none, the one that pads."""
    first = tokenizer.bos_token_id
    return (tokenizer.pad_token_id if first is None else first,)


def _pretrained(weights: Weights, load: bool) -> Parts:
    ensure_torchvision()
    from transformers import AutoModelForImageTextToText, BlipImageProcessorPil

    return pretrained_parts(AutoModelForImageTextToText, BlipImageProcessorPil, weights, types=("blip-2",), load=load)


def _fresh(sizes: Blip2Sizes) -> Parts:
    ensure_torchvision()
    from transformers import Blip2ForConditionalGeneration

    tokenizer = byte_tokenizer(_SPECIAL, (*sizes.words, _OPENING, _CLOSING), start="<s>")
    return Parts(
        network=Blip2ForConditionalGeneration(_config(sizes, tokenizer)),
        tokenizer=tokenizer,
        mean=(0.5, 0.5, 0.5),
        deviation=(0.5, 0.5, 0.5),
    )


def _config(sizes: Blip2Sizes, tokenizer: Any) -> Any:
    from transformers import Blip2Config

    tower = {
        "hidden_size": sizes.vision_width,
        "intermediate_size": 3 * sizes.vision_width,
        "num_hidden_layers": sizes.vision_layers,
        "num_attention_heads": sizes.heads,
    }
    pad, start, end, image = tokenizer.convert_tokens_to_ids(list(_SPECIAL))
    return Blip2Config(
        vision_config={**tower, "image_size": sizes.side, "patch_size": sizes.patch},
        qformer_config={**tower, "encoder_hidden_size": sizes.vision_width, "vocab_size": 1},
        text_config={
            "model_type": "llama",
            "hidden_size": sizes.width,
            "intermediate_size": 3 * sizes.width,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.heads,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 4096,
            "bos_token_id": start,
            "eos_token_id": end,
            "pad_token_id": pad,
        },
        num_query_tokens=sizes.tokens_per_image,
        image_token_index=image,
    )
