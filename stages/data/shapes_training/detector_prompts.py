"""Prompts for training the detector: phrases for things that are there and for some that are not."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt

from stages.data.shapes_training.detector_scenes import NOUNS
from stages.shapes.words import COLOURS, GROUNDS, PLAIN, TEXTURES

CLS, SEP, STOP = 101, 102, 1012
ANY = -1
"""In place of a number in a kind: the phrase does not say."""

_BERT = {"[PAD]": 0, "[UNK]": 100, "[CLS]": CLS, "[SEP]": SEP, "[MASK]": 103, ".": STOP, "?": 1029}
_FIRST_WORD = 1030

Kind = tuple[int, int, int]
"""Numbers of colour, texture and noun, or ``ANY``."""


def vocabulary() -> dict[str, int]:
    """Words by their number. Those that the network's code knows by number have BERT's."""
    words = [*COLOURS, *TEXTURES[1:], *NOUNS, *GROUNDS, "background", "a", "an", "the", "and", "on", ","]
    unused = {f"[unused{number}]": number for number in range(_FIRST_WORD) if number not in _BERT.values()}
    ids = _BERT | unused | dict(zip(words, count(_FIRST_WORD)))
    return dict(sorted(ids.items(), key=lambda item: item[1]))


_IDS = vocabulary()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt of several phrases.

    Attributes:
        ids: Token numbers, from ``[CLS]`` to ``[SEP]``.
        targets: ``thing token``, 1 for the tokens of phrases that say what the thing is.
    """

    ids: list[int]
    targets: npt.NDArray[np.float32]


def says(phrase: Kind, kind: Kind) -> bool:
    """Whether a phrase fits a thing: nothing that it says is otherwise."""
    return all(word in (ANY, part) for word, part in zip(phrase, kind, strict=True))


def words(phrase: Kind) -> list[str]:
    """The words of a phrase."""
    colour, texture, noun = phrase
    plain = texture in (ANY, TEXTURES.index(PLAIN))
    return [
        *([] if colour == ANY else [list(COLOURS)[colour]]),
        *([] if plain else [TEXTURES[texture]]),
        NOUNS[noun],
    ]


def write_prompt(phrases: Sequence[Kind | str], kinds: Sequence[Kind]) -> Prompt:
    """The prompt of phrases, and what in it is true of things of these kinds. A phrase as a string is true of none."""
    ids, truths = [CLS], [np.zeros(len(kinds))]
    for phrase in phrases:
        tokens = [_IDS[word] for word in ([phrase] if isinstance(phrase, str) else words(phrase))]
        fits = [not isinstance(phrase, str) and says(_unplain(phrase), kind) for kind in kinds]
        ids += [*tokens, STOP]
        truths += [np.array(fits, dtype=float)] * len(tokens) + [np.zeros(len(kinds))]
    return Prompt([*ids, SEP], np.stack([*truths, np.zeros(len(kinds))], axis=1).astype(np.float32))


def _unplain(phrase: Kind) -> Kind:
    """As plain things are not called so, a phrase without a texture fits things of any."""
    colour, texture, noun = phrase
    return colour, ANY if texture == TEXTURES.index(PLAIN) else texture, noun


def sample_phrases(kinds: Sequence[Kind], rng: np.random.Generator) -> list[Kind | str]:
    """Phrases in random order: most of the things', some of them shortened, and up to four that fit nothing."""
    phrases: list[Kind | str] = [_shorten(kind, rng) for kind in kinds if rng.random() < 0.9]
    for _ in range(int(rng.integers(0, 5))):
        absent = _absent(kinds, rng)
        if isinstance(absent, str) or not any(says(_unplain(absent), kind) for kind in kinds):
            phrases.append(absent)
    unique = list(dict.fromkeys(phrases)) or [GROUNDS[0]]
    return [unique[i] for i in rng.permutation(len(unique))]


def _shorten(kind: Kind, rng: np.random.Generator) -> Kind:
    """The phrase of a thing, rarely without its colour or its texture."""
    colour, texture, noun = kind
    chance = rng.random()
    return (ANY if chance < 0.05 else colour, ANY if chance > 0.95 else texture, noun)


def _absent(kinds: Sequence[Kind], rng: np.random.Generator) -> Kind | str:
    """A phrase, often one that differs in a word from a thing's; it may fit one all the same."""
    near = kinds[int(rng.integers(len(kinds)))]
    fresh = int(rng.integers(len(COLOURS))), int(rng.integers(-1, len(TEXTURES))), int(rng.integers(len(NOUNS)))
    texture = max(fresh[1], 0)
    match int(rng.integers(10)):
        case 0 | 1 | 2:
            return fresh[0], near[1], near[2]
        case 3 | 4 | 5:
            return near[0], near[1], fresh[2]
        case 6:
            return near[0], texture, near[2]
        case 7:
            return str(rng.choice(GROUNDS))
        case _:
            return fresh[0], texture, fresh[2]
