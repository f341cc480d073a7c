"""How well the stream's order mixes, beside a permutation of everything: ``python -m benchmarks.stream.mixing``."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from training.stream.order import OrderParams, Segment

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


def epoch(params: OrderParams, samples: int) -> list[Numbers]:
    """Sample numbers of an epoch's batches over one data set of one bucket, in the stream's order."""
    segment = Segment.first(params, ((samples,),), (Fraction(1),))
    plans = [segment.batch_at(step) for step in range(segment.steps(1))]
    parts = [segment.places(plan.bucket, plan.start, plan.start + params.batch_size) for plan in plans]
    return [np.concatenate([places.number for _, places in part]) for part in parts]


def main(
    samples: Annotated[int, typer.Option(min=1, help="In the data set")] = 1_000_000,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples in a batch")] = 256,
    shard: Annotated[int, typer.Option(min=1, help="Samples in a shard")] = 1000,
    block: Annotated[int, typer.Option(min=1, help="Neighbouring samples that are read together")] = 8,
    window: Annotated[int, typer.Option(min=1, help="Samples among which places are shuffled")] = 65536,
    seeds: Annotated[int, typer.Option(min=1, help="Orders to judge")] = 3,
) -> None:
    """Judge an epoch's batches; 1 is as a global permutation mixes, more is worse."""
    for seed in range(seeds):
        params = OrderParams(seed=seed, batch_size=batch_size, block=block, window=window)
        judged = mixing(epoch(params, samples), block, shard)
        print(
            f"seed {seed}: variance of batch means {judged.variance:.2f}, neighbours in a batch {judged.neighbours:.2f}"
        )


if __name__ == "__main__":
    typer.run(main)
