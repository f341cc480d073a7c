"""Dedup: of records with one URL, one file or nearly one picture, only the first in the unit goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from manifests.record import Picture
from stages.base import Context, Drop, Fail, Params, Stage
from stages.phash import perceptual_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupIn:
    """What ``dedup`` reads: before the download, the URL; after it, the file; after ``decode``, the picture too."""

    key: str
    url: str | None
    sha256: str | None
    image: Picture | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupOut:
    """``dedup`` writes nothing."""


class DedupParams(Params):
    """What counts as a repetition besides equal URLs and equal files."""

    max_distance: int | None = Field(
        None,
        ge=0,
        le=16,
        description="Drop pictures, too, whose perceptual hash differs from an earlier one's in at most so many of 64 "
        "bits: 4 finds what was resized or recompressed. Unset: pictures are not compared.",
    )


class Dedup(Stage[DedupIn, DedupOut]):
    """Drop every record that repeats one kept before it in the unit: by URL, by the bytes of its file, by its picture.

    Before ``fetch`` it compares URLs alone, so that none is downloaded twice. Repetitions across units are found by
    ``python -m pipeline dedup``.
    """

    In, Out, Params = DedupIn, DedupOut, DedupParams
    version = 2
    takes_unit = True
    reasons: ClassVar[Mapping[str, str]] = {
        "duplicate_url": "A record before it in the unit has the same URL.",
        "duplicate_file": "A record before it in the unit has the same file, byte for byte.",
        "near_duplicate": "A record before it in the unit shows nearly the same picture, within `max_distance`.",
    }

    def __init__(self, params: DedupParams) -> None:
        self.params = params

    @override
    @classmethod
    def load(cls, params: DedupParams, context: Context) -> "Dedup":
        return cls(params)

    @override
    def process(self, batch: Sequence[DedupIn]) -> list[DedupOut | Drop | Fail]:
        kept = _Kept(self.params.max_distance)
        return [kept.judge(record) for record in batch]


class _Kept:
    """The records of a unit that were kept so far, by what a later one may share with them."""

    def __init__(self, max_distance: int | None) -> None:
        self._max_distance = max_distance
        self._urls: dict[str, str] = {}
        self._files: dict[str, str] = {}
        self._keys: list[str] = []
        self._hashes: list[int] = []

    def judge(self, record: DedupIn) -> DedupOut | Drop:
        """The drop of a record that repeats one of them; another is taken among them."""
        if twin := self._urls.get(record.url or ""):
            return Drop("duplicate_url", f"repeats {twin}")
        if twin := self._files.get(record.sha256 or ""):
            return Drop("duplicate_file", f"repeats {twin}")
        if self._max_distance is not None and record.image is not None:
            own = perceptual_hash(record.image)
            if near := self._near(own, self._max_distance):
                return near
            self._hashes += [] if own is None else [own]
            self._keys += [] if own is None else [record.key]
        self._urls |= {record.url: record.key} if record.url else {}
        self._files |= {record.sha256: record.key} if record.sha256 else {}
        return DedupOut()

    def _near(self, own: int | None, max_distance: int) -> Drop | None:
        if own is None or not self._hashes:
            return None
        distances = np.bitwise_count(np.array(self._hashes, np.uint64) ^ np.uint64(own))
        nearest = int(distances.argmin())
        if distances[nearest] > max_distance:
            return None
        return Drop("near_duplicate", f"repeats {self._keys[nearest]}, {distances[nearest]} bits apart")
