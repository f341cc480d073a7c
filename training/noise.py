"""Random numbers as a function of the sample's place: the same on any number of ranks, with nothing to save.

Every number is a hash of the seed, the step, a name, the sample's place in the global batch, and its own place in the
sample. So a resumed run, or one on another number of GPUs, draws what the uninterrupted one would have drawn.
"""

import hashlib
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


@dataclass(frozen=True, slots=True)
class Noise:
    """What one step's random numbers are made from.

    Attributes:
        seed: Of the run.
        step: Of the optimiser; for pictures drawn from prompts, 0.
        slots: The places in the global batch that are asked about.
    """

    seed: int
    step: int
    slots: range

    def normal(
        self, name: str, shape: tuple[int, ...], device: torch.device | str = "cpu"
    ) -> Float[Tensor, "slot ..."]:
        """Standard normal numbers, float32; by the method of Box and Muller."""
        bits = self._bits(name, shape, device)
        radius = torch.sqrt(-2 * torch.log(((bits >> 32 & 0xFFFFFFFF).float() + 0.5) * 2**-32))
        return radius * torch.cos((bits & 0xFFFFFF).float() * (2 * math.pi * 2**-24))

    def uniform(
        self, name: str, shape: tuple[int, ...], device: torch.device | str = "cpu"
    ) -> Float[Tensor, "slot ..."]:
        """Numbers in [0, 1), float32."""
        return (self._bits(name, shape, device) >> 40 & 0xFFFFFF).float() * 2**-24

    def integers(
        self, name: str, high: int, shape: tuple[int, ...], device: torch.device | str = "cpu"
    ) -> Int[Tensor, "slot ..."]:
        """Numbers in ``range(high)``, int64."""
        return (self._bits(name, shape, device) >> 11 & (2**53 - 1)) % high

    def generator_seed(self) -> int:
        """A seed for torch's own generators, for what draws from them, such as dropout."""
        return (self._key("generator") + self.slots.start) % 2**63

    def _bits(self, name: str, shape: tuple[int, ...], device: torch.device | str) -> Int[Tensor, "slot ..."]:
        """64 random bits each."""
        slots = torch.arange(self.slots.start, self.slots.stop, self.slots.step, device=device)
        places = torch.arange(math.prod(shape), device=device)
        keys = _mix(slots * _GOLDEN + self._key(name))
        return _mix(keys[:, None] + (places * _GOLDEN)).reshape(len(self.slots), *shape)

    def _key(self, name: str) -> int:
        digest = hashlib.blake2b(f"{self.seed} {self.step} {name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True)


def _mix(bits: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """The finaliser of SplitMix64 (Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators")."""
    bits = (bits ^ (bits >> 30 & (1 << 34) - 1)) * _FIRST
    bits = (bits ^ (bits >> 27 & (1 << 37) - 1)) * _SECOND
    return bits ^ (bits >> 31 & (1 << 33) - 1)
