"""Randomness without state: every draw is a hash of what it is for."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
Numbers: TypeAlias = npt.NDArray[np.int64]
_ROUNDS = 6
_MASK = 2**64 - 1


def hash64(*parts: int | str) -> int:
    """64 bits that depend on every part and on nothing else, on any machine and version."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Each value scattered over 64 bits, one to one.

    Source: the finaliser of SplitMix64; Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators".
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def scatter(key: int, numbers: Numbers) -> npt.NDArray[np.uint64]:
    """64 random bits for each number under a key: to sort by, so as to shuffle."""
    return mix(numbers.astype(np.uint64) + np.uint64(key))


def permute(key: int, numbers: Numbers, size: int) -> Numbers:
    """Where a keyed permutation of ``range(size)`` takes each number, without holding the permutation.

    A balanced Feistel network over the next even number of bits, walked until it lands inside (on average fewer than
    four turns).

    Raises:
        ValueError: If a number is not in ``range(size)``.
    """
    if numbers.size and not (int(numbers.min()) >= 0 and int(numbers.max()) < size):
        raise ValueError(f"numbers must be in range({size}), got {int(numbers.min())} to {int(numbers.max())}")
    half = max(1, math.ceil(max(size - 1, 1).bit_length() / 2))
    result = numbers.astype(np.uint64)
    outside = np.ones(result.shape, bool)
    while outside.any():
        result[outside] = _feistel(key, result[outside], half)
        outside = result >= np.uint64(size)
    return result.astype(np.int64)


def _feistel(key: int, values: npt.NDArray[np.uint64], half: int) -> npt.NDArray[np.uint64]:
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = values >> shift, values & mask
    for number in range(_ROUNDS):
        round_key = np.uint64(hash64(key, number))
        left, right = right, left ^ (mix(right + round_key) & mask)
    return (left << shift) | right


def _mix(value: int) -> int:
    """:func:`mix` of one number, which NumPy would take ten times as long for."""
    value &= _MASK
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)


_name_hash = lru_cache(maxsize=4096)(hash64)


@dataclass(frozen=True, slots=True)
class Draws:
    """The random draws of one sample in one epoch.

    Each has a name and depends on that name, the seed, the epoch and the sample's key alone: neither on which worker
    draws, nor on what else is drawn. So a new draw in a recipe leaves the others as they were.
    """

    seed: int
    epoch: int
    key: str
    base: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", hash64(self.seed, self.epoch, self.key))

    def bits(self, name: str) -> int:
        """64 of them."""
        return _mix(self.base + _name_hash(name))

    def uniform(self, name: str) -> float:
        """In [0, 1)."""
        return (self.bits(name) >> 11) * 2.0**-53

    def chance(self, name: str, probability: float) -> bool:
        """True with this probability."""
        return probability > 0 and (probability >= 1 or self.uniform(name) < probability)

    def between(self, name: str, low: float, high: float) -> float:
        """In [low, high)."""
        return low + (high - low) * self.uniform(name)

    def integer(self, name: str, stop: int) -> int:
        """In ``range(stop)``."""
        return int(self.uniform(name) * stop)

    def choice(self, name: str, options: Sequence[T]) -> T:
        """One of the options, each as likely as the others."""
        return options[self.integer(name, len(options))]

    def order(self, name: str, count: int) -> list[int]:
        """``range(count)``, shuffled."""
        return sorted(range(count), key=lambda number: self.bits(f"{name} {number}"))

    def generator(self, name: str) -> np.random.Philox:
        """A bit generator, for noise: its raw bits are the same on every version of NumPy."""
        return np.random.Philox(key=self.bits(name))
