"""Phrases to prompts of a text encoder: ``[CLS] red ball . dog . [SEP]``, and where in them each phrase stands."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

TOO_LONG = "phrase_too_long"
UNKNOWN = "unknown_words"

_MARKS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
"""Tokens with a meaning for the networks, by their number in BERT's vocabulary, which transformers builds on."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Phrases that are asked for at once.

    Attributes:
        ids: Token numbers.
        places: By the phrase's number, where its tokens stand in ``ids``; those the vocabulary lacks left out.
    """

    ids: tuple[int, ...]
    places: dict[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Writing:
    """What became of a picture's phrases.

    Attributes:
        prompts: Together they hold every phrase but the unread, each once.
        unread: By the phrase's number, the reason that it is in no prompt.
    """

    prompts: tuple[Prompt, ...]
    unread: dict[int, str]


class PromptWriter:
    """Writes prompts from tokens, phrase by phrase, so that a phrase's place is known and not searched for.

    The model takes ``.`` and ``?`` as ends of phrases; inside of a phrase they count as spaces ("st. bernard").
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        """Use a BERT tokenizer of transformers.

        Args:
            tokenizer: Its vocabulary may be small, but must number the tokens that part phrases as BERT's does.
            max_tokens: Longest prompt, as in the model's ``max_text_len``.

        Raises:
            ValueError: If the vocabulary is numbered otherwise.
        """
        found = dict(zip(_MARKS, tokenizer.convert_tokens_to_ids(list(_MARKS)), strict=True))
        if found != _MARKS:
            raise ValueError(f"the tokenizer numbers {found}, not as BERT does: {_MARKS}; is it the model's own?")
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    def write(self, phrases: Sequence[str]) -> Writing:
        """The prompts for phrases: as few as hold them in their order, none cut."""
        tokens = dict(enumerate(self._tokens(phrases)))
        unread = {number: reason for number, ids in tokens.items() if (reason := self._why_not(ids))}
        parts: list[dict[int, list[int]]] = []
        for number, ids in tokens.items():
            if number in unread:
                continue
            if not parts or _length([*parts[-1].values(), ids]) > self._max_tokens:
                parts.append({})
            parts[-1][number] = ids
        return Writing(tuple(map(_prompt, parts)), unread)

    def _tokens(self, phrases: Sequence[str]) -> list[list[int]]:
        if not phrases:
            return []
        words = [phrase.lower().replace(".", " ").replace("?", " ") for phrase in phrases]
        ids: list[list[int]] = self._tokenizer(words, add_special_tokens=False, truncation=False, verbose=False)[
            "input_ids"
        ]
        return ids

    def _why_not(self, ids: Sequence[int]) -> str | None:
        if set(ids) <= {_MARKS["[UNK]"]}:
            return UNKNOWN
        return TOO_LONG if _length([ids]) > self._max_tokens else None


def _length(phrases: Iterable[Sequence[int]]) -> int:
    return 2 + sum(len(ids) + 1 for ids in phrases)


def _prompt(part: dict[int, list[int]]) -> Prompt:
    ids, places = [_MARKS["[CLS]"]], dict[int, tuple[int, ...]]()
    for number, mine in part.items():
        places[number] = tuple(len(ids) + place for place, token in enumerate(mine) if token != _MARKS["[UNK]"])
        ids += [*mine, _MARKS["."]]
    return Prompt((*ids, _MARKS["[SEP]"]), places)
