"""The snapshot: which units an epoch draws from, frozen, and how to tell that it is still the same data."""

import hashlib
import itertools
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from training.stream.buckets import Buckets
from training.stream.catalog import Catalog, Entry, save_array
from training.stream.keyed import Numbers
from training.stream.names import write_names

_STRIPES = 16


class DatasetError(ValueError):
    """The data is not what it was, or not there; the message names the difference and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What a snapshot is, small enough to stand in a state.

    Attributes:
        units: Names, written short.
        samples: In all units.
        stripes: Digests of sixteen stretches of the units' indices, so that a change can be placed.
    """

    units: str
    samples: int
    stripes: tuple[str, ...]

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Fingerprint":
        """What :func:`manifests.record.to_plain` gave."""
        return cls(units=plain["units"], samples=plain["samples"], stripes=tuple(plain["stripes"]))


class Snapshot:
    """Some units of a data set, with their samples numbered by bucket in the order of the units."""

    def __init__(self, url: str, catalog: Catalog, names: Sequence[str], buckets: Buckets) -> None:
        known = catalog.known()
        self.url, self.catalog, self.buckets = url, catalog, buckets
        self.names = list(names)
        self.places = [known[name][:2] for name in names]
        by_part = [_counts_of(catalog, number, buckets) for number in range(len(catalog.parts))]
        counts = [by_part[part][unit] for part, unit in self.places]
        self.ends = np.cumsum(np.array(counts, np.int64).reshape(-1, len(buckets.sizes)), axis=0)
        self.rows: Callable[[int, int], Numbers] = lru_cache(maxsize=4096)(self._rows)

    @property
    def counts(self) -> tuple[int, ...]:
        """Samples by bucket."""
        return tuple(int(count) for count in self.ends[-1]) if len(self.ends) else (0,) * len(self.buckets.sizes)

    def entry(self, bucket: int, number: int) -> Entry:
        """Where the bucket's sample of this number is."""
        unit = int(np.searchsorted(self.ends[:, bucket], number, side="right"))
        before = int(self.ends[unit - 1, bucket]) if unit else 0
        part, place = self.places[unit]
        return self.catalog.parts[part].entry(place, int(self.rows(unit, bucket)[number - before]))

    def _rows(self, unit: int, bucket: int) -> Numbers:
        """Places in a unit of its samples of a bucket."""
        part, place = self.places[unit]
        return np.flatnonzero(assign(self.buckets, *self.catalog.parts[part].sizes(place)) == bucket)

    def fingerprint(self) -> Fingerprint:
        """What this snapshot is."""
        lines = [f"{name} {digest}\n" for name, digest in self._digests().items()]
        stripes = tuple(hashlib.sha256("".join(stretch).encode()).hexdigest()[:16] for stretch in _stretches(lines))
        return Fingerprint(units=write_names(self.names), samples=sum(self.counts), stripes=stripes)

    def check_growth(self, before: "Snapshot") -> None:
        """Refuse data that lost or changed units since.

        Raises:
            DatasetError: Naming the first of them.
        """
        now, then = self._digests(), before._digests()
        changed = [name for name, digest in then.items() if now.get(name) != digest]
        if changed:
            what = "changed" if changed[0] in now else "is gone"
            raise DatasetError(
                f"{self.url}: unit {changed[0]} {what} while the stream reads it ({len(changed)} such units); "
                "a data set may only grow; put the old data back and resume from the last state"
            )

    def _digests(self) -> dict[str, str]:
        parts = self.catalog.parts
        return {name: parts[part].digests[unit] for name, (part, unit) in zip(self.names, self.places, strict=True)}

    def check(self, stated: Fingerprint) -> None:
        """Refuse data that is not what a state says it was.

        Raises:
            DatasetError: Naming the units among which the difference is.
        """
        now = self.fingerprint()
        if now == stated:
            return
        names = [write_names(stretch) for stretch in _stretches(self.names)]
        pairs = zip(names, now.stripes, stated.stripes, strict=True)
        changed = [stretch for stretch, is_, was in pairs if is_ != was]
        raise DatasetError(
            f"{self.url} is not what it was when the state was saved: units changed among "
            f"{', '.join(changed)} ({now.samples} samples now, {stated.samples} then). "
            "Put the old data back to resume, or start a new run without the state."
        )


def _stretches(items: Sequence[Any]) -> list[Sequence[Any]]:
    edges = [len(items) * number // _STRIPES for number in range(_STRIPES + 1)]
    return [items[start:stop] for start, stop in itertools.pairwise(edges)]


def assign(buckets: Buckets, width: Any, height: Any) -> Any:
    """Buckets by size; a picture of unknown size is taken for a square, and judged when it is read."""
    unknown = (width == 0) | (height == 0)
    return buckets.assign(np.where(unknown, 1, width), np.where(unknown, 1, height))


def _counts_of(catalog: Catalog, number: int, buckets: Buckets) -> Numbers:
    """Samples by unit and bucket of a part; kept beside it, as this is the one thing that needs all its samples."""
    part = catalog.parts[number]
    ratios = hashlib.sha256(repr(tuple(buckets.ratios)).encode()).hexdigest()[:16]
    kept = part.folder / f"counts-{ratios}.npy"
    if not kept.exists():
        which = assign(buckets, part.samples["width"], part.samples["height"]).astype(np.int64)
        unit = np.repeat(np.arange(len(part.units)), np.diff(part.firsts))
        shape = (len(part.units), len(buckets.sizes))
        counts = np.bincount(unit * shape[1] + which, minlength=shape[0] * shape[1]).reshape(shape)
        temporary = kept.with_name(f".{uuid.uuid4().hex}.npy")
        save_array(temporary, counts)
        temporary.rename(kept)
    result: Numbers = np.load(kept)
    return result
