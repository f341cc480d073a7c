"""Feature vectors of subjects, read from the committed shards of a run."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any

import numpy as np

from manifests.record import Box, ModelUse, from_plain
from pipeline.ledger import Layout
from pipeline.members import list_members, read_members
from pipeline.pairing.neighbours import Floats
from stages.features import unpack, values_of
from stages.geometry import intersection

_SUFFIX = ".safetensors"
_NAME = re.compile(r"(subject|head|face)(\d+)_(.+)")


class PairError(ValueError):
    """Pairs that cannot be mined; the message says why and what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A subject with a vector: where it is, and what decides which others it may be linked with."""

    unit: int
    key: str
    subject: int
    sha256: str | None
    group: str | None
    head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Items by key and subject with their vectors of length 1, the model, and how many vectors were left out."""

    items: Sequence[Item]
    values: Floats
    model: ModelUse
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vector:
    """A feature as read. ``share``: of a face, how much of it lies in the subject that it is said to be of."""

    kind: str
    item: Item | None
    share: float
    model: ModelUse
    values: Floats


def read_vectors(layout: Layout, pattern: str, units: Iterable[str]) -> Found:
    """The vectors that a pattern such as ``subject*_dino_vector`` names, in these units.

    A face is of the subject that has most of it in its head box or, without one, its box; where no stage looked for
    subjects, it stands for itself, and its number for the subject's. Left out are faces of no subject, those of a
    subject that has another one more surely, and vectors without direction.

    Raises:
        PairError: If there are none, or they are of several kinds or from several models.
        FeatureError: If a feature is damaged.
        MemberError: If a shard is.
    """
    seen = [vector for unit in units for vector in _read_unit(layout, unit, pattern)]
    _check_one_kind(seen, pattern)
    surest: dict[tuple[str, int], tuple[Item, _Vector]] = {}
    for vector in seen:
        item = vector.item
        if item and np.linalg.norm(vector.values) > 0:
            place = item.key, item.subject
            if place not in surest or vector.share > surest[place][1].share:
                surest[place] = item, vector
    if not surest:
        raise PairError(
            f"{layout.root}: no vectors {pattern} of subjects, heads or faces; put an embed node in the run"
        )
    kept = [surest[place] for place in sorted(surest)]
    values = np.stack([vector.values for _, vector in kept])
    return Found(
        items=[item for item, _ in kept],
        values=values / np.linalg.norm(values, axis=1, keepdims=True),
        model=seen[0].model,
        left_out=len(seen) - len(kept),
    )


def _check_one_kind(seen: Sequence[_Vector], pattern: str) -> None:
    for what, values in {
        "kinds": {vector.kind for vector in seen},
        "models": {f"{vector.model.name} at {vector.model.revision}" for vector in seen},
        "shapes": {str(vector.values.shape) for vector in seen},
    }.items():
        if len(values) > 1:
            raise PairError(
                f"{pattern} names features of several {what}, {', '.join(sorted(values))}; name one of them"
            )
    if seen and seen[0].values.ndim != 1:
        raise PairError(f"{pattern} names features of shape {seen[0].values.shape}; pairs are found by vectors")


def _read_unit(layout: Layout, unit: str, pattern: str) -> Iterator[_Vector]:
    members = list_members(layout.index(unit), lambda name: name == "json" or fnmatchcase(name, pattern + _SUFFIX))
    named = {member.key for member in members if member.name != "json"}
    wanted = [member for member in members if member.key in named]
    for _, sample in groupby(read_members(layout.tar(unit), wanted), key=lambda read: read[0].key):
        parts = {member.name: data for member, data in sample}
        plain = json.loads(parts.pop("json"))
        for name, data in parts.items():
            if match := _NAME.fullmatch(name.removesuffix(_SUFFIX)):
                yield _vector(int(unit), plain, match, data)


def _vector(unit: int, plain: Mapping[str, Any], name: re.Match[str], data: bytes) -> _Vector:
    stem, number, rest = name[1], int(name[2]), name[3]
    subject, share = (_subject_of_face(plain, number)) if stem == "face" else (number, 1.0)
    feature = unpack(name[0], data)
    item = None if subject is None else _item(unit, plain, subject)
    values = np.asarray(values_of(feature), np.float32)
    return _Vector(kind=f"{stem}*_{rest}", item=item, share=share, model=feature.model, values=values)


def _item(unit: int, plain: Mapping[str, Any], subject: int) -> Item:
    return Item(
        unit=unit,
        key=plain["key"],
        subject=subject,
        sha256=plain["sha256"],
        group=plain.get("group"),
        head=plain["subjects"][subject]["head"] if plain["subjects"] is not None else "",
    )


def _subject_of_face(plain: Mapping[str, Any], number: int) -> tuple[int | None, float]:
    """The subject that has most of a face, and how much of it; no subject if none has half of it."""
    if plain["subjects"] is None:
        return number, 1.0
    face: Box = from_plain(Box, plain["faces"][number]["box"])
    shares = []
    for place, subject in enumerate(plain["subjects"] or ()):
        box: Box | None = from_plain(Box, subject.get("head_box") or subject["box"])
        shares.append((intersection(face, box) / face.area if box else 0.0, -place))
    share, place = max(shares, default=(0.0, 0))
    return (-place if share >= 0.5 else None), share
