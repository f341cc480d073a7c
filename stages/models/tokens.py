"""Texts as rows of token ids with a mask, all of one length, and what a network says of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from stages.base import ModelRef
from stages.models.encoder import BatchEncoder, Outputs
from stages.models.torchvision_compat import ensure_torchvision
from stages.models.weights import locate, unreadable

ensure_torchvision()

from transformers import AutoTokenizer  # noqa: E402

_LONGEST_TOKEN = 32
"""Characters a token up to which a text is cut into tokens at all: CLIP's way in Python takes their square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """How a network takes texts.

    Attributes:
        tokenize: Ids of a whole text, begin and end among them where the network wants them.
        pad: Id that fills up.
        length: Most tokens of a text; also the length of a row.
    """

    tokenize: Callable[[str], list[int]]
    pad: int
    length: int

    def limited(self, length: int | None) -> "Tokens":
        """The same with at most ``length`` tokens.

        Raises:
            ValueError: If the network does not take so many.
        """
        if length and length > self.length:
            raise ValueError(f"max_length {length} is more than the {self.length} tokens that the network takes")
        return replace(self, length=length or self.length)

    def ids(self, text: str) -> tuple[list[int], bool]:
        """As many ids as fit, the last of which marks the end, and whether those are all."""
        most = _LONGEST_TOKEN * self.length
        seen = text if len(text) <= most else " ".join(text.split())[:most]
        ids = self.tokenize(seen)
        is_whole = len(ids) <= self.length and (len(text) <= most or len(seen) < most)
        return (ids if len(ids) <= self.length else [*ids[: self.length - 1], ids[-1]]), is_whole

    def row(self, ids: Sequence[int]) -> Tensor:
        """(2, token): ids, and 1 where they are text or 0 where they fill up."""
        fill = self.length - len(ids)
        return torch.tensor([[*ids, *[self.pad] * fill], [1] * len(ids) + [0] * fill])


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoder:
    """Texts to what a network says of them.

    Attributes:
        tokens: How it takes them.
        encode: Asks it with rows of tokens.
        truncate: Cut texts that are too long; else they have no outputs.
        padding: Keep the states of what fills up.
    """

    tokens: Tokens
    encode: BatchEncoder
    truncate: bool
    padding: bool

    def __call__(self, texts: Sequence[str]) -> list[Outputs | None]:
        """Outputs for each text, ``states`` as (token, channel); ``None`` for one that is too long."""
        cut = [self.tokens.ids(text) for text in texts]
        kept = [ids if is_whole or self.truncate else None for ids, is_whole in cut]
        found = iter(self.encode([self.tokens.row(ids) for ids in kept if ids is not None]))
        return [None if ids is None else self._without_padding(next(found), len(ids)) for ids in kept]

    def _without_padding(self, outputs: Outputs, count: int) -> Outputs:
        if self.padding or "states" not in outputs:
            return outputs
        return {**outputs, "states": outputs["states"][:count]}


HubTokenizer: TypeAlias = Any
"""A tokenizer of transformers."""


def load_hub_tokenizer(ref: ModelRef) -> HubTokenizer:
    """The tokenizer beside a network's weights.

    Raises:
        ValueError: If there is none, or it cannot be read.
    """
    try:
        return AutoTokenizer.from_pretrained(locate(ref), revision=ref.revision or "main")
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise unreadable(ref, f"no tokenizer in {ref.name!r}", error) from error


def hub_ids(tokenizer: HubTokenizer) -> Callable[[str], list[int]]:
    """All ids of a text, with begin and end as the tokenizer sets them."""
    return lambda text: list(tokenizer(text, verbose=False).input_ids)
