"""Which side of a split a sample is on: by a hash, so that it stays there however the data set grows."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NAME = re.compile(r"[a-z][a-z0-9_-]*")


class SplitError(ValueError):
    """A split that cannot be made; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Side:
    """A part of a split: its name, and its share of the sum of all shares."""

    name: str
    share: int


@dataclass(frozen=True, slots=True)
class Split:
    """Sides, each a folder of its own."""

    sides: tuple[Side, ...]

    @classmethod
    def parse(cls, text: str) -> "Split":
        """The split that ``train=80,validation=20`` says.

        Raises:
            SplitError: If it says none.
        """
        parts = [part.strip().partition("=") for part in text.split(",")]
        for name, _, share in parts:
            if not _NAME.fullmatch(name) or not (share.isascii() and share.isdigit()) or int(share) < 1:
                raise SplitError(f"--split {text!r}: give names with whole shares above 0, as train=80,validation=20")
        names = [name for name, _, _ in parts]
        if len(set(names)) < len(names) or len(names) < 2:
            raise SplitError(f"--split {text!r}: give two sides or more, each once, as train=80,validation=20")
        return cls(tuple(Side(name, int(share)) for name, _, share in parts))

    def __str__(self) -> str:
        return ",".join(f"{side.name}={side.share}" for side in self.sides)

    def share(self, number: int) -> float:
        """A side's share of all samples, in (0, 1)."""
        return self.sides[number].share / sum(side.share for side in self.sides)

    @property
    def largest(self) -> float:
        """The largest side's share."""
        return max(map(self.share, range(len(self.sides))))

    def side_of(self, identity: str) -> int:
        """The number of the side that an identity is on."""
        digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).digest()
        place = int.from_bytes(digest[:8], "big") * sum(side.share for side in self.sides) >> 64
        for number, side in enumerate(self.sides):
            place -= side.share
            if place < 0:
                return number
        raise AssertionError("the place is below the sum of the shares")


_IDENTITIES: Sequence[str] = ("group", "sha256", "url", "key")
"""What samples that must not be torn apart have in common: the first of these that is there."""


def identity_of(plain: Mapping[str, Any]) -> str:
    """What decides a sample's side: its group, else its source picture, else its key."""
    return next(str(plain[name]) for name in _IDENTITIES if plain.get(name))
