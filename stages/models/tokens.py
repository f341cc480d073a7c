"""Texts as rows of token ids with a mask, all of one length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from stages.base import ModelRef
from stages.models.encoder import BatchEncoder, Outputs
from stages.models.torchvision_compat import ensure_torchvision
from stages.models.weights import locate

ensure_torchvision()

from transformers import AutoTokenizer  # noqa: E402


class Tokenizer(Protocol):
    """Cuts a text into tokens."""

    def __call__(self, text: str) -> list[int]:
        """Ids of all tokens, begin and end among them where the network wants them; however many there are."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoder:
    """Texts to what a network says of them.

    Attributes:
        tokenize: Text to ids.
        encode: Takes (row, 2, token): ids, and 1 where they are text or 0 where they fill up.
        length: Tokens of a row.
        pad: Id that fills up.
        truncate: Cut longer texts, but for their last token, which marks the end; else they have no outputs.
        padding: Keep the states of what fills up.
    """

    tokenize: Tokenizer
    encode: BatchEncoder
    length: int
    pad: int
    truncate: bool
    padding: bool

    def __call__(self, texts: Sequence[str]) -> list[Outputs | None]:
        """Outputs for each text, ``states`` as (token, channel); ``None`` for one that is too long."""
        ids = [self._fitted(self.tokenize(text)) for text in texts]
        found = iter(self.encode([self._row(mine) for mine in ids if mine is not None]))
        return [None if mine is None else self._kept(next(found), len(mine)) for mine in ids]

    def _fitted(self, ids: list[int]) -> list[int] | None:
        if len(ids) <= self.length:
            return ids
        return [*ids[: self.length - 1], ids[-1]] if self.truncate else None

    def _row(self, ids: Sequence[int]) -> Tensor:
        fill = self.length - len(ids)
        return torch.tensor([[*ids, *[self.pad] * fill], [1] * len(ids) + [0] * fill])

    def _kept(self, outputs: Outputs, tokens: int) -> Outputs:
        if self.padding or "states" not in outputs:
            return outputs
        return {**outputs, "states": outputs["states"][:tokens]}


@dataclass(frozen=True, slots=True)
class HubTokenizer:
    """A tokenizer of transformers."""

    tokenizer: Any

    def __call__(self, text: str) -> list[int]:
        """All ids, with begin and end as the tokenizer sets them."""
        ids: list[int] = self.tokenizer(text, verbose=False).input_ids
        return ids


def load_tokenizer(ref: ModelRef) -> HubTokenizer:
    """The tokenizer beside a network's weights.

    Raises:
        ValueError: If there is none, or it cannot be read.
    """
    try:
        return HubTokenizer(AutoTokenizer.from_pretrained(locate(ref), revision=ref.revision or "main"))
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ValueError(f"no tokenizer in {ref.name!r}: {' '.join(str(error).split())[:300]}") from error
