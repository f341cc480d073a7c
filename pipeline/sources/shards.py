"""The shards of a finished run as records again, so that another manifest can go on from them.

Records keep their keys, their lineage and all that shards hold; the files as they were fetched are not among it. With
a table from ``python -m pipeline pairs`` every linked subject gets its partner's crop, and ``crop_key`` says whose;
where no stage looked for subjects, every linked face does.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manifests import dag
from manifests.files import AnyPath
from manifests.record import DroppedSubject, Face, Feature, Picture, Record, Row, Subject
from manifests.shard import check_version, record_from_members
from manifests.unit_record import UnitRecord, unit_name
from pipeline.ledger import Layout, ResumeError
from pipeline.members import MemberError, list_members, read_members
from pipeline.sources.base import Part, Source, SourceError, Unit
from pipeline.sources.paths import absolute
from pipeline.sources.rows import NODE, changed
from pipeline.sources.shard_fields import fields_given
from stages.features import FeatureError, unpack

UNPAIRED = "unpaired"
"""Why a subject was dropped: no other picture shows it."""

Kinds = tuple[str, ...]
"""What members and features of a subject, or of a face, are called before its number."""

_SUBJECT: Kinds = ("subject", "head")
_FACE: Kinds = ("face",)

Place = tuple[str, int]
"""A subject, or a face of a record without them: the record's key and its number."""


class Shards(Source):
    """Samples of a finished run, one part a shard."""

    reasons: Mapping[str, str] = {UNPAIRED: "No other picture shows the subject."}

    def __init__(self, config: dag.ShardsSource) -> None:
        self._layout = Layout(absolute(config.path))
        self._drops = config.unpaired == "drop"
        self._units = _finished(self._layout, config.path)
        fingerprint = self._units[0].fingerprint
        self._pairs = None if config.pairs is None else _pairs(absolute(config.pairs), fingerprint)
        how = f"{self._pairs.digest} {config.unpaired}" if self._pairs else ""
        self.parts = tuple(
            Part(
                f"{config.path}/shards/{unit.name}.tar",
                unit.kept,
                hashlib.sha256(f"{unit.tar_sha256} {how}".encode()).hexdigest(),
            )
            for unit in self._units
        )
        given = fields_given(self._layout, self._units)
        self._kinds = _SUBJECT if "subjects" in given else _FACE
        self.gives = given - ({"prompt"} if self._renumbers else set())

    @property
    def _renumbers(self) -> bool:
        return self._pairs is not None and self._drops

    def read(self, unit: Unit) -> list[Row]:
        """The unit's records.

        Raises:
            SourceError: If a shard or the pairs are no longer what was planned, or damaged.
        """
        shard = self._units[unit.part]
        try:
            records = self._records(shard, unit)
            if self._pairs:
                links = _links(self._pairs, shard.unit, self._layout, self._kinds)
                records = [
                    (_relinked if record.subjects is not None else _refaced)(record, links, self._drops)
                    for record in records
                ]
        except (OSError, MemberError, FeatureError, KeyError) as error:
            raise SourceError(f"{self._layout.tar(shard.name)}: cannot be read: {error}; verify the run") from None
        return [Row(record=record) for record in records]

    def _records(self, shard: UnitRecord, unit: Unit) -> list[Record]:
        tar, index = self._layout.tar(shard.name), self._layout.index(shard.name)
        if tar.stat().st_size != shard.tar_size or _sha256(index.read_bytes()) != shard.index_sha256:
            raise changed(tar)
        samples = [list(sample) for _, sample in groupby(list_members(index), key=lambda member: member.key)]
        wanted = [member for sample in samples[unit.start : unit.stop] for member in sample]
        read = groupby(read_members(tar, wanted), key=lambda read: read[0].key)
        return [
            record_from_members({member.name: data for member, data in sample}, f"{tar}: {key}") for key, sample in read
        ]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _finished(layout: Layout, path: str) -> tuple[UnitRecord, ...]:
    """The records of all units."""
    try:
        info, units = layout.read_run(), tuple(layout.unit_records())
    except ResumeError as error:
        raise SourceError(f"{path}: {error}") from None
    done = sum(unit.attempt == 1 for unit in units)
    if done < info.units:
        raise SourceError(f"{path}: {done} of {info.units} units are done; finish the run first")
    if not any(unit.kept for unit in units):
        raise SourceError(f"{path}: the run kept no record; nothing to do")
    return units


@dataclass(frozen=True, slots=True)
class _Pairs:
    """A table of pairs as planned."""

    path: AnyPath
    digest: str


def _pairs(path: AnyPath, fingerprint: str) -> _Pairs:
    try:
        data = path.read_bytes()
        metadata = pq.read_schema(io.BytesIO(data)).metadata or {}
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(f"{path}: no table of pairs: {error}; make one by `python -m pipeline pairs`") from None
    check_version(int(metadata.get(b"schema_version", b"0")), str(path))
    if metadata.get(b"fingerprint", b"").decode() != fingerprint:
        raise SourceError(f"{path}: these pairs were mined from another run; mine them from this one")
    return _Pairs(path, _sha256(data))


@lru_cache(maxsize=1)
def _table(pairs: _Pairs) -> pa.Table:
    """The table, kept for the next unit."""
    data = pairs.path.read_bytes()
    if _sha256(data) != pairs.digest:
        raise changed(pairs.path)
    return pq.read_table(io.BytesIO(data))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Partner:
    """What a subject takes over from its partner. Features are named by the partner's number."""

    key: str
    number: int
    crop: Picture
    head_crop: Picture | None
    features: tuple[Feature, ...]


def _links(pairs: _Pairs, unit: int, layout: Layout, kinds: Kinds) -> Mapping[Place, _Partner]:
    """The partner of each linked subject of a unit that has a crop."""
    table = _table(pairs)
    rows = table.filter(pc.equal(table["unit"], unit)).sort_by("partner_unit").to_pylist()
    links: dict[Place, _Partner] = {}
    for other, group in groupby(rows, key=lambda row: int(row["partner_unit"])):
        by_partner = {(row["partner_key"], row["partner_subject"]): (row["key"], row["subject"]) for row in group}
        for partner in _read_partners(layout, unit_name(other), list(by_partner), kinds):
            links[by_partner[partner.key, partner.number]] = partner
    return links


def _read_partners(layout: Layout, unit: str, places: Sequence[Place], kinds: Kinds) -> list[_Partner]:
    wanted = {(key, f"{kind}{number}"): (key, number) for key, number in places for kind in kinds}
    members = [
        member for member in list_members(layout.index(unit), _is_no_mask) if (member.key, _stem(member.name)) in wanted
    ]
    parts: dict[Place, dict[str, Picture | Feature]] = {place: {} for place in places}
    for member, data in read_members(layout.tar(unit), members):
        name, _, ending = member.name.rpartition(".")
        mine = parts[wanted[member.key, _stem(member.name)]]
        if ending == "safetensors":
            mine[name] = unpack(name, data)
        else:
            assert member.width and member.height
            mine[name] = Picture(
                format="jpg" if ending == "jpg" else "png", width=member.width, height=member.height, data=data
            )
    return [found for place, mine in parts.items() if (found := _partner(place, mine))]


def _is_no_mask(name: str) -> bool:
    return not name.endswith(".mask.png")


def _stem(name: str) -> str:
    """``subject0`` of ``subject0.head.jpg`` and ``subject0_dino_vector.safetensors``."""
    return name.partition(".")[0].partition("_")[0]


def _partner(place: Place, parts: Mapping[str, Picture | Feature]) -> _Partner | None:
    key, number = place
    crop, head = parts.get(f"subject{number}", parts.get(f"face{number}")), parts.get(f"subject{number}.head")
    if not isinstance(crop, Picture):
        return None
    return _Partner(
        key=key,
        number=number,
        crop=crop,
        head_crop=head if isinstance(head, Picture) else None,
        features=tuple(part for part in parts.values() if isinstance(part, Feature)),
    )


def _relinked(record: Record, links: Mapping[Place, _Partner], drops: bool) -> Record:
    """The record with its subjects' partners' crops, and features to match; if ``drops``, without other subjects."""
    subjects: list[Subject] = []
    dropped = list(record.dropped_subjects)
    features = [feature for feature in record.features if not feature.name.startswith(("subject", "head"))]
    for number, subject in enumerate(record.subjects or ()):
        partner = links.get((record.key, number))
        if partner:
            new = replace(subject, crop=partner.crop, head_crop=partner.head_crop, crop_key=partner.key)
            features += _renamed(partner.features, partner.number, len(subjects), _SUBJECT)
            subjects.append(new)
        elif drops:
            dropped.append(DroppedSubject(phrase=subject.phrase, stage=NODE, reason=UNPAIRED))
        else:
            features += _renamed(record.features, number, len(subjects), _SUBJECT)
            subjects.append(subject)
    return replace(
        record,
        subjects=tuple(subjects),
        dropped_subjects=tuple(dropped),
        features=tuple(features),
        prompt=None if drops else record.prompt,
    )


def _refaced(record: Record, links: Mapping[Place, _Partner], drops: bool) -> Record:
    """Likewise with the faces of a record without subjects."""
    faces: list[Face] = []
    features = [feature for feature in record.features if not feature.name.startswith("face")]
    for number, face in enumerate(record.faces or ()):
        partner = links.get((record.key, number))
        if partner or not drops:
            own = (record.features, number) if partner is None else (partner.features, partner.number)
            features += _renamed(*own, len(faces), _FACE)
            faces.append(replace(face, crop=partner.crop, crop_key=partner.key) if partner else face)
    return replace(
        record,
        faces=None if record.faces is None else tuple(faces),
        features=tuple(features),
        prompt=None if drops else record.prompt,
    )


def _renamed(features: Sequence[Feature], old: int, new: int, kinds: Kinds) -> list[Feature]:
    """Those of a subject, its head, or a face, under another number."""
    return [
        replace(feature, name=f"{kind}{new}_{feature.name.removeprefix(f'{kind}{old}_')}")
        for kind in kinds
        for feature in features
        if feature.name.startswith(f"{kind}{old}_")
    ]
