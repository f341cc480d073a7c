"""Captions of scenes, by a grammar of one sentence form.

"a red striped circle, a blue star and a green house on a grass background": the things from left to right, then what
is behind them if it has a name. ``stages/phrases.py`` reads exactly the things as subjects, as "background" frames a
picture and is no thing in it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from manifests.record import Span
from stages.shapes.scene import Scene, Thing, reading_order
from stages.shapes.words import PLAIN


@dataclass(frozen=True, slots=True)
class Mention:
    """A thing in a caption.

    Attributes:
        thing: Its index in ``Scene.things``.
        phrase: Its words without the article, unlike those of any other thing of the scene.
        span: Where the phrase stands in the caption.
    """

    thing: int
    phrase: str
    span: Span


def phrase(thing: Thing) -> str:
    """What a thing is called: "red striped circle", "blue star"."""
    return f"{thing.colour} {thing.noun}" if thing.texture == PLAIN else f"{thing.colour} {thing.texture} {thing.noun}"


def caption(scene: Scene) -> str:
    """The scene in words."""
    named = [f"a {phrase(scene.things[i])}" for i in reading_order(scene)]
    things = listed(named)
    return f"{things} on a {scene.background} background" if scene.background else things


def listed(named: Sequence[str]) -> str:
    """One or more in a row: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))


def mentions(scene: Scene) -> tuple[Mention, ...]:
    """The things in the order and at the places that :func:`caption` names them."""
    return tuple(find(caption(scene), [(i, phrase(scene.things[i])) for i in reading_order(scene)]))


def find(text: str, named: Iterable[tuple[int, str]]) -> Iterator[Mention]:
    """Things, each with its phrase, at the places in a text that names them in this order."""
    end = 0
    for index, words in named:
        start = text.index(words, end)
        end = start + len(words)
        yield Mention(index, words, Span(start=start, end=end))
