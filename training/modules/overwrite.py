"""Feature overwriting: the text states of a subject's noun become the CLIP vector of its picture.

Source: Patel et al. 2024, "λ-ECLIPSE", section 3.2 and released code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from manifests.record import Span

Match: TypeAlias = Literal["span", "token_ids"]
"""How a noun's states are found: by its characters, or wherever its tokens are, as the released weights saw it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenisedText:
    """A text as CLIP's text encoder takes it, begin and end among its tokens.

    Attributes:
        text: As it was given.
        ids: Of its tokens, those that fit.
        offsets: The characters each is made of; an empty range for begin and end.
        is_cut: It has more tokens than the encoder takes.
    """

    text: str
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    is_cut: bool


def tokenise(tokenizer: Any, texts: Sequence[str], limit: int) -> list[TokenisedText]:
    """Texts as tokens, at most ``limit`` each; of one that is too long the end token stays.

    Args:
        tokenizer: CLIP's, of transformers.
        texts: Any.
        limit: Tokens that the encoder takes.
    """
    found = tokenizer(list(texts), return_offsets_mapping=True, add_special_tokens=True, verbose=False)
    return [
        TokenisedText(
            text=text, ids=_fit(ids, limit), offsets=_fit(map(tuple, offsets), limit), is_cut=len(ids) > limit
        )
        for text, ids, offsets in zip(texts, found.input_ids, found.offset_mapping, strict=True)
    ]


def _fit(parts: Any, limit: int) -> tuple[Any, ...]:
    whole = tuple(parts)
    return whole if len(whole) <= limit else (*whole[: limit - 1], whole[-1])


def places(text: TokenisedText, span: Span, match: Match, tokenizer: Any) -> tuple[int, ...]:
    """The places of a noun's tokens; none if they lie beyond what the encoder takes."""
    return _by_span(text, span) if match == "span" else _by_ids(text, span, tokenizer)


def _by_span(text: TokenisedText, span: Span) -> tuple[int, ...]:
    return tuple(
        n for n, (start, end) in enumerate(text.offsets) if start < end and start < span.end and end > span.start
    )


def _by_ids(text: TokenisedText, span: Span, tokenizer: Any) -> tuple[int, ...]:
    wanted = set(tokenizer(span.of(text.text), add_special_tokens=False).input_ids)
    return tuple(number for number, token in enumerate(text.ids) if token in wanted)


@dataclass(frozen=True, slots=True)
class States:
    """Text states of one length, and which of them are text."""

    states: Float[Tensor, "sample token dim"]
    mask: Bool[Tensor, "sample token"]


def padded(
    states: Tensor | Sequence[Float[Tensor, "token dim"]], texts: Sequence[TokenisedText], length: int
) -> States:
    """States of texts, float32, filled up with zeros to one length.

    Args:
        states: A text's each, those that fill up there or not.
        texts: The texts.
        length: Tokens of a row.

    Raises:
        ValueError: If a text has more tokens than states: they are of another text, or of another encoder.
    """
    for found, text in zip(states, texts, strict=True):
        if len(found) < len(text.ids):
            raise ValueError(
                f"{text.text!r} has {len(text.ids)} tokens, but {len(found)} states: they aren't of this text"
            )
    rows = (states if isinstance(states, Tensor) else pad_sequence(list(states), batch_first=True))[:, :length].float()
    rows = functional.pad(rows, (0, 0, 0, length - rows.shape[1]))
    counts = torch.tensor([len(text.ids) for text in texts])
    mask = (torch.arange(length) < counts[:, None]).to(rows.device)
    return States(rows.masked_fill(~mask[..., None], 0), mask)


def overwrite(
    states: Float[Tensor, "sample token dim"],
    found: Mapping[tuple[int, int], int],
    vectors: Float[Tensor, "vector dim"],
) -> Float[Tensor, "sample token dim"]:
    """The states with vectors in their places.

    Args:
        states: Of texts.
        found: By sample and token, the number of the vector that goes there.
        vectors: Of subjects.
    """
    if not found:
        return states
    samples, tokens = zip(*found, strict=True)
    index = torch.tensor([samples, tokens, tuple(found.values())]).to(states.device)
    changed = states.clone()
    changed[index[0], index[1]] = vectors[index[2]].to(changed.dtype)
    return changed
