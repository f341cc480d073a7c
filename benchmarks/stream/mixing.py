"""How well an order mixes, beside a permutation of everything."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """Of an order, relative to a global permutation's mean: 1 is as good, more is worse mixed.

    Attributes:
        neighbours: Pairs of a batch that stand in one neighbourhood of the data.
        variance: Of the batches' means of a label that is constant within a shard. With some hundred batches, one
            permutation differs from the next by about a tenth.
    """

    neighbours: float
    variance: float


def neighbour_pairs(batches: Sequence[Numbers], neighbourhood: int) -> float:
    """Mean number of pairs of a batch that stand in one run of so many samples."""
    pairs = [_pairs(np.unique(batch // neighbourhood, return_counts=True)[1]) for batch in batches]
    return float(np.mean(pairs))


def _pairs(counts: Numbers) -> int:
    return int((counts * (counts - 1) // 2).sum())


def label_variance(batches: Sequence[Numbers], shard: int) -> float:
    """Variance of the batches' means of a standard normal label that each shard of so many samples has."""
    last = max(int(batch.max()) for batch in batches)
    labels = np.random.default_rng(0).normal(size=last // shard + 1)
    return float(np.var([labels[batch // shard].mean() for batch in batches]))


def mixing(batches: Sequence[Numbers], neighbourhood: int, shard: int, permutations: int = 8) -> Mixing:
    """Judge an epoch's batches of sample numbers.

    Args:
        batches: Sample numbers as they stand in the data, each once; batches of one size.
        neighbourhood: Samples that are read together.
        shard: Samples in a shard.
        permutations: Drawn to compare with.

    Raises:
        ValueError: If batches differ in size, as their variances then do.
    """
    if len({len(batch) for batch in batches}) != 1:
        raise ValueError("batches must be of one size; leave out the last if it is smaller")
    flat = np.concatenate(batches)
    shuffled = [np.split(np.random.default_rng(seed).permutation(flat), len(batches)) for seed in range(permutations)]
    pairs = np.mean([neighbour_pairs(one, neighbourhood) for one in shuffled])
    variance = np.mean([label_variance(one, shard) for one in shuffled])
    return Mixing(
        neighbours=float(neighbour_pairs(batches, neighbourhood) / pairs),
        variance=float(label_variance(batches, shard) / variance),
    )
