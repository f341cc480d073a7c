"""Which vectors are each other's nearest, above a threshold: block by block, so that memory stays bounded."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]
Block = tuple[Codes, Codes]

_DIGITS = 6
"""Decimals of a similarity; what follows hangs on the order in which float32 sums are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Similarities [``low``, ``high``) link two vectors: below is another identity, from ``high`` on a duplicate."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """What to link.

    Attributes:
        values: Vectors of length 1, (item, dimension).
        pictures: Code by item: items of one picture are never linked.
        classes: Code by item: only items of one class are linked, those of a negative class with none.
    """

    values: Floats
    pictures: Codes
    classes: Codes


class Nearest:
    """The nearest other item of every item, as far as blocks have been seen."""

    def __init__(self, vectors: Vectors, limits: Limits) -> None:
        self._vectors = vectors
        self._limits = limits
        count = len(vectors.values)
        self.similarity = np.full(count, -np.inf, np.float32)
        self.place = np.full(count, -1, np.int64)

    def see(self, block: Block) -> None:
        """Compare two runs of items, each with each. Blocks must come as :func:`blocks` gives them."""
        rows, columns = block
        similar = self._similar(rows, columns)
        self._keep(rows, columns, similar)
        if rows[0] != columns[0]:
            self._keep(columns, rows, similar.T)

    def _similar(self, rows: Codes, columns: Codes) -> Floats:
        values = self._vectors.values
        found = np.round(values[rows] @ values[columns].T, _DIGITS)
        if rows[0] == columns[0]:
            found = np.maximum(found, found.T)
        is_linked = (found >= np.float32(self._limits.low)) & (found < np.float32(self._limits.high))
        is_linked &= self._vectors.pictures[rows][:, None] != self._vectors.pictures[columns]
        return np.where(is_linked, found, np.float32(-np.inf))

    def _keep(self, rows: Codes, columns: Codes, similar: Floats) -> None:
        nearest = similar.argmax(axis=1)
        value = similar[np.arange(len(rows)), nearest]
        is_nearer = value > self.similarity[rows]
        self.similarity[rows[is_nearer]] = value[is_nearer]
        self.place[rows[is_nearer]] = columns[nearest[is_nearer]]

    def mutual(self) -> Codes:
        """The items that are the nearest of their nearest, in order."""
        items = np.flatnonzero(self.place >= 0)
        return np.asarray(items[self.place[self.place[items]] == items], np.int64)


def blocks(classes: Codes, size: int) -> Iterator[Block]:
    """Pairs of runs of at most ``size`` items such that every two items of one class meet once.

    An item meets the others in their order, so that of equally near ones the first is found.
    """
    order = np.argsort(classes, kind="stable")
    edges = np.flatnonzero(np.diff(classes[order])) + 1
    for items in np.split(order, edges):
        if len(items) < 2 or classes[items[0]] < 0:
            continue
        runs = [items[start : start + size] for start in range(0, len(items), size)]
        for number, rows in enumerate(runs):
            for columns in runs[number:]:
                yield rows, columns


def count_blocks(classes: Codes, size: int) -> int:
    """How many :func:`blocks` there are."""
    counts = np.unique(classes[classes >= 0], return_counts=True)[1]
    runs = -(-counts[counts > 1] // size)
    return int((runs * (runs + 1) // 2).sum())
