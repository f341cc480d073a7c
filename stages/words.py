"""Words in a text: where a phrase occurs, and whether the text goes round in circles. Any script."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from manifests.record import Span

_NO_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, kana and Han."""

_WORD = re.compile(rf"[{_NO_SPACES}]|[^\W{_NO_SPACES}]+")


def words(text: str) -> list[str]:
    """The words, case aside and without marks; each character counts as one where a script has no spaces."""
    return _WORD.findall(text.casefold())


def is_looping(text: str, max_repeats: int) -> bool:
    """Whether the same words, one or several, follow each other more than ``max_repeats`` times."""
    found = words(text)
    return any(_loops(found, size, max_repeats) for size in range(1, len(found) // (max_repeats + 1) + 1))


def _loops(found: Sequence[str], size: int, max_repeats: int) -> bool:
    run = 0
    for word, earlier in zip(found[size:], found, strict=False):
        run = run + 1 if word == earlier else 0
        if run >= size * max_repeats:
            return True
    return False


def anchor(text: str, phrases: Sequence[str]) -> list[Span | None]:
    """A place in the text for each phrase, in the order of the phrases; no two overlap.

    The longest phrase comes first, so that "dog house" is not split by "dog"; equal ones take one occurrence after the
    other. Case and the width of spaces don't matter; a phrase begins and ends where words do. ``None`` where a phrase
    does not occur, or all its places are taken.
    """
    places: list[Span | None] = [None] * len(phrases)
    taken = bytearray(len(text))
    for number in sorted(range(len(phrases)), key=lambda number: -len(phrases[number])):
        free = (span for span in occurrences(text, phrases[number]) if not any(taken[span.start : span.end]))
        place = next(free, None)
        if place:
            places[number] = place
            taken[place.start : place.end] = b"\1" * (place.end - place.start)
    return places


def occurrences(text: str, phrase: str) -> Iterator[Span]:
    """Where a phrase stands in a text as words of its own, in order: nowhere if it has no letter and no digit."""
    if not words(phrase):
        return
    pattern = r"\s+".join(map(re.escape, phrase.split()))
    for found in re.finditer(f"(?=({pattern}))", text, re.IGNORECASE):
        start, end = found.span(1)
        if not (_is_inner(text, start) or _is_inner(text, end)):
            yield Span(start=start, end=end)


def _is_inner(text: str, place: int) -> bool:
    """Whether a word goes on from the character before a place to that after it."""
    return 0 < place < len(text) and all(map(_is_of_word, text[place - 1 : place + 1]))


def _is_of_word(char: str) -> bool:
    is_letter = char.isalnum() or unicodedata.category(char).startswith("M")
    return is_letter and not re.match(f"[{_NO_SPACES}]", char)
