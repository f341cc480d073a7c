"""Whether a generated picture of the arranged shapes world is as its prompt says and as its references look."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.learning_look import Look
from stages.shapes.arranged import SIDE, Arranged, Kind, hue_distance

NEAR = 0.125
"""Share of the side within which a thing is in its place: half the way to the nearest other place."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a picture was asked to show.

    Attributes:
        kinds: That of each thing: its shape by the text, its hue and texture by its reference.
        centres: Where the text puts each, x and y as shares of the side; ``None`` if it does not say.
    """

    kinds: tuple[Kind, ...]
    centres: tuple[tuple[float, float], ...] | None

    @classmethod
    def of(cls, arranged: Arranged) -> Self:
        """What the scene's own prompt asks for."""
        centres = tuple((thing.x / SIDE, thing.y / SIDE) for thing in arranged.scene.things)
        return cls(arranged.kinds, centres if arranged.exemplar is None else None)


@dataclass(frozen=True, slots=True)
class Follows:
    """How a thing that was asked for came out.

    Attributes:
        is_in_place: It is where the text says; ``None`` if the text does not say.
        has_noun: Its shape is right.
        has_texture: Its texture is right.
        hue_error: Degrees from the right hue, 0 to 180; by chance 90 on average.
    """

    is_in_place: bool | None
    has_noun: bool
    has_texture: bool
    hue_error: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a picture came out.

    Attributes:
        has_count: It shows as many things as were asked for.
        is_placed: The text says where things are.
        things: For each that was asked for; ``None`` where the picture shows too few.
    """

    has_count: bool
    is_placed: bool
    things: tuple[Follows | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Means over pictures and their things; what is missing counts as wrong, but for hues.

    Attributes:
        counts: Pictures with the right number of things.
        places: Things in their places, of those that the text puts somewhere.
        nouns: Things of the right shape.
        textures: Things of the right texture.
        hue_error: Degrees, of the things that are there.
    """

    counts: float
    places: float
    nouns: float
    textures: float
    hue_error: float


def judge(looks: Sequence[Look], asked: Asked) -> Verdict:
    """Hold what a picture shows against what was asked for.

    Things are paired with places so that the distances are least in sum; where the text names no places, as they come.
    """
    things: list[Follows | None] = [None] * len(asked.kinds)
    for number, found in _pairs(looks, asked):
        look, kind = looks[found], asked.kinds[number]
        things[number] = Follows(
            is_in_place=_distance(look, asked.centres[number]) <= NEAR if asked.centres else None,
            has_noun=look.kind.noun == kind.noun,
            has_texture=look.kind.texture == kind.texture,
            hue_error=hue_distance(look.kind.hue, kind.hue),
        )
    return Verdict(len(looks) == len(asked.kinds), asked.centres is not None, tuple(things))


def _pairs(looks: Sequence[Look], asked: Asked) -> list[tuple[int, int]]:
    """What was asked for and what was found, by number."""
    if asked.centres is None or not looks:
        return [(number, number) for number in range(min(len(looks), len(asked.kinds)))]
    rows, columns = linear_sum_assignment([[_distance(look, centre) for look in looks] for centre in asked.centres])
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _distance(look: Look, centre: tuple[float, float]) -> float:
    return float(np.hypot(look.x - centre[0], look.y - centre[1]))


def shares(verdicts: Iterable[Verdict]) -> Shares:
    """The means over one picture or more.

    A mean of nothing, such as of places where no text names any, is NaN.
    """
    told = list(verdicts)
    things = [thing for verdict in told for thing in verdict.things]
    return Shares(
        counts=_mean(verdict.has_count for verdict in told),
        places=_mean(
            bool(thing and thing.is_in_place) for verdict in told if verdict.is_placed for thing in verdict.things
        ),
        nouns=_mean(bool(thing and thing.has_noun) for thing in things),
        textures=_mean(bool(thing and thing.has_texture) for thing in things),
        hue_error=_mean(thing.hue_error for thing in things if thing),
    )


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else float("nan")
