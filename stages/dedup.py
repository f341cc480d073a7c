"""Dedup: of records with one URL or one file, only the first in the unit goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from stages.base import Context, Drop, Fail, Params, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupIn:
    """What ``dedup`` reads."""

    key: str
    url: str | None
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupOut:
    """``dedup`` writes nothing."""


class DedupParams(Params):
    """Nothing to set."""


class Dedup(Stage[DedupIn, DedupOut]):
    """Drop every record that repeats one that was kept before it in the unit, by URL or by the bytes of its file."""

    In, Out, Params = DedupIn, DedupOut, DedupParams
    takes_unit = True
    reasons: ClassVar[Mapping[str, str]] = {
        "duplicate_url": "A record before it in the unit has the same URL.",
        "duplicate_image": "A record before it in the unit has the same file, byte for byte.",
    }

    @override
    @classmethod
    def load(cls, params: DedupParams, context: Context) -> "Dedup":
        return cls()

    @override
    def process(self, batch: Sequence[DedupIn]) -> list[DedupOut | Drop | Fail]:
        kept_urls: dict[str, str] = {}
        kept_files: dict[str, str] = {}
        results: list[DedupOut | Drop | Fail] = []
        for record in batch:
            if record.url is not None and record.url in kept_urls:
                results.append(Drop("duplicate_url", f"repeats {kept_urls[record.url]}"))
            elif record.sha256 in kept_files:
                results.append(Drop("duplicate_image", f"repeats {kept_files[record.sha256]}"))
            else:
                if record.url is not None:
                    kept_urls[record.url] = record.key
                kept_files[record.sha256] = record.key
                results.append(DedupOut())
        return results
