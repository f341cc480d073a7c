"""How an interleaved prompt is written in the tokens of a language model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from manifests.prompt import InterleavedPrompt, Segment, TextSegment

_IN_SEQUENCE = ("replace", "before")

_STANDS_OFF = re.compile(r"[\s<]")
"""What text begins with that needs no gap before it. Source: ``Idefics2Processor`` of transformers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A prompt as tokens.

    Attributes:
        ids: Of the tokens, as many as there is room for.
        entity: Of each token: 0 text; k the prompt's k-th image.
        length: Tokens that the whole prompt has.
        references: Images that the whole prompt has.
        kept: Of these, how many are in ``ids``: the first ones.
    """

    ids: Sequence[int]
    entity: Sequence[int]
    length: int
    references: int
    kept: int

    @property
    def is_cut(self) -> bool:
        """The prompt is longer than there is room for."""
        return self.length > len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Start token, then text as it is, and for each image its delimiters around so many placeholders.

    An empty prompt is the start token alone. Text is never read as a special token.

    Attributes:
        tokenizer: A tokenizer of transformers.
        start: Ids that every prompt begins with, one at least.
        opening: Ids before an image.
        placeholder: The id that stands for each of an image's tokens.
        closing: Ids after an image.
        tokens_per_image: Placeholders of an image.
        max_tokens: Room for a prompt.
        gap: Stands between an image and text that goes on without a space.
        is_shared: Whether an image right behind another has no opening of its own: the other's closing is its opening.
    """

    tokenizer: Any
    start: tuple[int, ...]
    opening: tuple[int, ...]
    placeholder: int
    closing: tuple[int, ...]
    tokens_per_image: int
    max_tokens: int
    gap: str = ""
    is_shared: bool = False

    @property
    def image(self) -> tuple[int, ...]:
        """Tokens of an image with its delimiters."""
        return (*self.opening, *(self.placeholder,) * self.tokens_per_image, *self.closing)

    def write(self, prompt: InterleavedPrompt) -> Written:
        """The prompt as tokens; what there is no room for is left out at the end, an image as a whole.

        Raises:
            ValueError: If an image stands beside the sequence, not in it.
        """
        pieces = self._pieces(prompt)
        ids, entity, kept = self._fitted(pieces)
        return Written(
            ids=ids,
            entity=entity,
            length=sum(len(piece) for piece, _ in pieces),
            references=len(prompt.images),
            kept=kept,
        )

    def _pieces(self, prompt: InterleavedPrompt) -> list[tuple[tuple[int, ...], int]]:
        """Stretches of tokens and the image that each is, 0 for none; delimiters go with their image."""
        pieces, images, is_behind_image = [(self.start, 0)], 0, False
        for segment in prompt.segments:
            is_image = not isinstance(segment, TextSegment)
            images += is_image
            pieces.append((self._piece(segment, is_behind_image), images if is_image else 0))
            is_behind_image = is_image
        return pieces

    def _piece(self, segment: Segment, is_behind_image: bool) -> tuple[int, ...]:
        if isinstance(segment, TextSegment):
            gap = self.gap if is_behind_image and not _STANDS_OFF.match(segment.text) else ""
            return text_ids(self.tokenizer, gap + segment.text)
        if segment.insertion not in _IN_SEQUENCE:
            raise ValueError(
                f"{segment.marker} enters as {segment.insertion!r}, but must stand in the sequence: "
                f"{' or '.join(_IN_SEQUENCE)}"
            )
        return self.image[len(self.opening) :] if self.is_shared and is_behind_image else self.image

    def _fitted(self, pieces: Sequence[tuple[tuple[int, ...], int]]) -> tuple[list[int], list[int], int]:
        ids: list[int] = []
        entity: list[int] = []
        for piece, image in pieces:
            room = self.max_tokens - len(ids)
            if image and len(piece) > room:
                return ids, entity, image - 1
            ids += piece[:room]
            entity += [image if token == self.placeholder else 0 for token in piece[:room]]
            if len(piece) > room:
                return ids, entity, max(entity)
        return ids, entity, max(entity)


def text_ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Tokens of text, no token added, and no text taken for a special token."""
    return tuple(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
