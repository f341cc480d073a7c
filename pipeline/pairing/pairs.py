"""Pair mining: subjects of the same identity in different pictures, so that reference and target need not be one.

Two subjects are linked if each is the other's nearest by some feature, and near enough. Sources: Wu et al. 2025,
"Less-to-More Generalization" (UNO), whose ablation shows how much paired pictures are worth over crops of the target;
EMMA's blog, whose second stage takes a person from other pictures.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import track

from manifests.files import AnyPath, write_atomically
from manifests.record import SCHEMA_VERSION
from manifests.shard import parquet_bytes
from pipeline.ledger import Layout
from pipeline.pairing.neighbours import Codes, Limits, Nearest, Vectors, blocks, count_blocks
from pipeline.pairing.vectors import Found, Item, PairError, read_vectors
from pipeline.plan import digest


class Within(StrEnum):
    """What linked subjects may be told to share: the record's group, or the head noun."""

    GROUP = "group"
    HEAD = "head"


PAIR_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("subject", pa.int32(), nullable=False),
        pa.field("partner_key", pa.string(), nullable=False),
        pa.field("partner_subject", pa.int32(), nullable=False),
        pa.field("similarity", pa.float32(), nullable=False),
        pa.field("unit", pa.int32(), nullable=False),
        pa.field("partner_unit", pa.int32(), nullable=False),
    ]
)
"""A row a subject that has a partner, by key and subject; its partner has a row too. ``unit`` is where the key is."""

_BLOCK = 2048
"""Vectors compared at once with as many others: 16 MiB of similarities."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOptions:
    """How subjects are linked.

    Attributes:
        feature: Pattern of the features' names, such as ``face*_adaface_vector``.
        limits: Cosines that link.
        within: What linked subjects share.
    """

    feature: str
    limits: Limits
    within: Sequence[Within] = ()

    def __post_init__(self) -> None:
        if self.limits.low >= self.limits.high:
            raise PairError(f"similarities [{self.limits.low}, {self.limits.high}) are none; lower --min-similarity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """What was found: subjects with a vector, vectors left out, subjects with a partner."""

    items: int
    left_out: int
    linked: int


def mine(layout: Layout, options: PairOptions, out: AnyPath, console: Console) -> Mined:
    """Link the subjects of a run's committed shards and write the table.

    Raises:
        ResumeError: If the folder holds no run.
        PairError: If there is nothing to link by.
        MemberError, FeatureError: If a shard is damaged.
    """
    info = layout.read_run()
    units = _told(layout.committed(), "reading vectors", console)
    found = read_vectors(layout, options.feature, units)
    vectors = _vectors(found, options.within)
    nearest = Nearest(vectors, options.limits)
    count = count_blocks(vectors.classes, _BLOCK)
    for block in _told(blocks(vectors.classes, _BLOCK), "comparing", console, count):
        nearest.see(block)
    table = _table(found.items, nearest).replace_schema_metadata(
        {
            "schema_version": str(SCHEMA_VERSION),
            "feature": options.feature,
            "model": found.model.name,
            "revision": found.model.revision,
            "min_similarity": repr(options.limits.low),
            "max_similarity": repr(options.limits.high),
            "within": " ".join(sorted(options.within)),
            "fingerprint": digest(info.fingerprint),
        }
    )
    write_atomically(out, parquet_bytes(table))
    return Mined(items=len(found.items), left_out=found.left_out, linked=table.num_rows)


def _told(steps: Iterable[T], what: str, console: Console, count: int | None = None) -> Iterable[T]:
    return track(steps, what, total=count, console=console, transient=True, disable=not console.is_terminal)


def _vectors(found: Found, within: Sequence[Within]) -> Vectors:
    pictures = _codes([item.sha256 or item.key for item in found.items])
    return Vectors(values=found.values, pictures=pictures, classes=_classes(found.items, within))


def _classes(items: Sequence[Item], within: Sequence[Within]) -> Codes:
    """A code for each item's group and head noun, as far as they matter; -1 where one is not known."""
    if Within.GROUP in within and not any(item.group for item in items):
        raise PairError("--within group, but no record has a group; the source's metadata must give it")
    shared: list[Callable[[Item], str | None]] = [_SHARED[name] for name in sorted(set(within))]
    names = [tuple(of(item) for of in shared) for item in items]
    codes = _codes(list(map(repr, names)))
    return np.where([None in name for name in names], np.int64(-1), codes)


_SHARED: dict[Within, Callable[[Item], str | None]] = {
    Within.GROUP: lambda item: item.group,
    Within.HEAD: lambda item: item.head or None,
}


def _codes(words: Sequence[str]) -> Codes:
    return np.asarray(np.unique(np.array(words), return_inverse=True)[1], np.int64)


def _table(items: Sequence[Item], nearest: Nearest) -> pa.Table:
    rows = []
    for number in nearest.mutual():
        item, partner = items[number], items[nearest.place[number]]
        rows.append(
            {
                "key": item.key,
                "subject": item.subject,
                "partner_key": partner.key,
                "partner_subject": partner.subject,
                "similarity": float(nearest.similarity[number]),
                "unit": item.unit,
                "partner_unit": partner.unit,
            }
        )
    return pa.Table.from_pylist(rows, schema=PAIR_SCHEMA)
