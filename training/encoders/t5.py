"""T5's encoder as the reader of texts: states of a fixed number of tokens, those that fill up among them.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer"; its
use is ELLA's (Hu et al. 2024, section 4.1, and released code).
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from training.encoders.byte_tokenizer import byte_tokenizer
from training.encoders.once import once
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights, load_weights

_PAD, _END = "<pad>", "</s>"


@dataclass(frozen=True, slots=True, kw_only=True)
class T5Sizes:
    """Sizes of a T5 encoder with fresh weights, that reads bytes.

    Attributes:
        width: Of the states.
        layers: Of it.
        heads: Of attention.
        words: Read as one token each.
    """

    width: int
    layers: int
    heads: int
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class T5:
    """A T5 encoder.

    Attributes:
        source: Weights of a T5, or sizes.
        length: Tokens of a text: longer ones are cut, shorter ones filled up. Source: ELLA, section 4.1.
    """

    source: Weights | T5Sizes
    length: int = 128

    def build(self, load: bool = True, device: torch.device | str | None = None) -> "T5Text":
        """The reader; without ``load``, its network has fresh weights. ``None``: where tensors are made now.

        Raises:
            OSError: If weights are not there.
        """
        if isinstance(self.source, T5Sizes):
            return T5Text(*_fresh(self.source), self.length)
        return T5Text(*_pretrained(self.source, load, device), self.length)

    def width(self) -> int:
        """Of the states.

        Raises:
            OSError: If weights are named, and their configuration is not there.
        """
        return self.source.width if isinstance(self.source, T5Sizes) else int(_config(self.source).d_model)


@dataclass(frozen=True, slots=True)
class T5States:
    """What T5 says of texts: states of all positions, and which texts were cut."""

    states: Float[Tensor, "text token state"]
    is_cut: Bool[Tensor, " text"]


class T5Text(nn.Module):
    """The encoder, frozen."""

    def __init__(self, network: Any, tokenizer: Any, length: int) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.length = length

    def train(self, mode: bool = True) -> "T5Text":
        """It stays as it is: it is frozen."""
        return super().train(False)

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> T5States:
        """States of texts, float32; what fills up sees the text and is not seen by it."""
        found = [self._ids(text) for text in texts]
        pad = self.tokenizer.pad_token_id
        device = self.network.device
        ids = torch.tensor([[*row, *[pad] * (self.length - len(row))] for row, _ in found], device=device)
        lengths = torch.tensor([len(row) for row, _ in found], device=device)
        mask = torch.arange(self.length, device=device) < lengths[:, None]
        states = self.network(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return T5States(states.float(), torch.tensor([is_cut for _, is_cut in found]))

    def _ids(self, text: str) -> tuple[list[int], bool]:
        """As many of a text's tokens as fit, then the end's; and whether some didn't."""
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return [*ids[: self.length - 1], self.tokenizer.eos_token_id], len(ids) >= self.length


def empty_states(config: T5) -> Float[Tensor, "token state"]:
    """The states of the empty text by a published T5, float32; T5 is loaded for it once on a machine.

    Raises:
        OSError: If weights are not there.
    """
    assert isinstance(config.source, Weights), "fresh ones are not kept"
    return once(f"empty_text_{config.length}", config.source, lambda: config.build().read([""]).states[0])


def _pretrained(weights: Weights, load: bool, device: torch.device | str | None) -> tuple[Any, Any]:
    ensure_torchvision()
    import transformers

    model: Any = transformers.T5EncoderModel
    tokenizer: Any = transformers.AutoTokenizer
    if load:
        return load_weights(model, weights, dtype="auto").to(device), load_weights(tokenizer, weights)
    with nullcontext() if device is None else torch.device(device):
        return model(_config(weights)), load_weights(tokenizer, weights)


def _config(weights: Weights) -> Any:
    ensure_torchvision()
    from transformers import T5Config

    config: Any = T5Config
    return load_weights(config, weights)


def _fresh(sizes: T5Sizes) -> tuple[Any, Any]:
    ensure_torchvision()
    from transformers import T5Config, T5EncoderModel

    tokenizer = byte_tokenizer((_PAD, _END), sizes.words)
    tokenizer.eos_token = _END
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=sizes.width,
        d_kv=sizes.width // sizes.heads,
        d_ff=4 * sizes.width,
        num_layers=sizes.layers,
        num_heads=sizes.heads,
    )
    return T5EncoderModel(config), tokenizer
