"""The record: every field a stage may read or write, and its fixed Arrow form."""

import copyreg
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any, Literal

import pyarrow as pa

from manifests.prompt import InterleavedPrompt

SCHEMA_VERSION = 1
"""Version of the record, the shard and the index. Raise it when a reader of the old form would misread the new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Characters ``[start, end)`` of the caption, counted in Unicode code points."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"a span needs 0 <= start < end, got start={self.start}, end={self.end}")

    def of(self, text: str) -> str:
        """The part of ``text`` this span covers."""
        return text[self.start : self.end]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Axis-aligned rectangle in pixels of ``Record.image``, half-open: ``x1`` and ``y1`` lie just outside."""

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        if not (self.x0 < self.x1 and self.y0 < self.y1):
            raise ValueError(f"a box needs x0 < x1 and y0 < y1, got {self.xyxy}")

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels."""
        return self.x0, self.y0, self.x1, self.y1

    @property
    def area(self) -> float:
        """Square pixels."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Binary mask of ``height`` x ``width`` pixels as COCO compressed run-length encoding (column-major)."""

    height: int
    width: int
    counts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An encoded 8-bit sRGB picture that is upright and opaque."""

    format: Literal["jpg", "png"]
    width: int
    height: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Keypoint:
    """A named point of a person that came with the metadata, such as COCO's ``left_eye``.

    ``x`` and ``y`` are fractions of the upright picture's width and height. ``is_visible``: not hidden by something.
    """

    name: str
    x: float
    y: float
    is_visible: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """A box that came with the metadata (GRIT, COCO), before anything is matched to the caption.

    ``x0 … y1`` are fractions of the upright picture's width and height in [0, 1], so they survive any resize.
    ``span`` points into ``Record.alt_text``; ``mask`` is at the original picture's size.
    """

    phrase: str
    span: Span | None = None
    x0: float
    y0: float
    x1: float
    y1: float
    score: float | None = None
    mask: Mask | None = None
    is_crowd: bool = False
    keypoints: tuple[Keypoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Something the caption names and the picture shows.

    Attributes:
        phrase: The words, exactly ``span.of(caption)``; no leading article.
        span: Where the phrase stands in the caption.
        head: Lemma of the phrase's head noun, lower case.
        head_span: Where the head noun stands in the caption; inside ``span``.
        is_plural: The head noun is plural or counted ("two dogs").
        box: Where it is, in pixels of ``Record.image``.
        score: Confidence of ``box`` in [0, 1].
        mask: Its pixels, at the size of ``Record.image``.
        crop: Its reference image, cut at the original's resolution.
        crop_key: Key of the record whose picture ``crop`` shows, where that is another one of the same identity.
        head_box: Box of a person's head, in pixels of ``Record.image``.
        head_crop: The head's reference image, cut at the original's resolution.
    """

    phrase: str
    span: Span
    head: str
    head_span: Span
    is_plural: bool = False
    box: Box | None = None
    score: float | None = None
    mask: Mask | None = None
    crop: Picture | None = None
    crop_key: str | None = None
    head_box: Box | None = None
    head_crop: Picture | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedSubject:
    """A phrase that did not become a subject, and why."""

    phrase: str
    stage: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A picture derived from the whole image that says where things are."""

    kind: Literal["canny", "depth", "sketch"]
    picture: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point in pixels of ``Record.image``."""

    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """A face in the picture.

    Attributes:
        box: In pixels of ``Record.image``.
        score: Confidence in [0, 1].
        landmarks: The person's right eye, left eye, nose, right and left corner of the mouth; empty if not known.
        crop: The face, cut at the original's resolution.
        crop_key: Key of the record whose picture ``crop`` shows, where that is another one of the same identity.
    """

    box: Box
    score: float
    landmarks: tuple[Point, ...] = ()
    crop: Picture | None = None
    crop_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A part of the picture that no words go with.

    Attributes:
        kind: ``random``: a box drawn at random; ``object``: the object that the picture is about.
        box: In pixels of ``Record.image``.
        mask: Its pixels, at the size of ``Record.image``; ``None``: the whole box.
        crop: The region, cut at the original's resolution.
    """

    kind: Literal["random", "object"]
    box: Box
    mask: Mask | None = None
    crop: Picture | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """A model that shaped a record: its name (hub id, package or path) and the exact revision or hash."""

    name: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a model thinks of the picture.

    ``name`` says on which scale: ``aesthetic`` about [1, 10]; ``clip_cosine`` [-1, 1] and ``clip_score``, which is
    2.5 max(cosine, 0), of picture and caption; ``nsfw`` [0, 1]; ``text_share`` [0, 1], the share of the picture that
    written text covers; ``pick``, PickScore's logit of picture and prompt.
    """

    name: Literal["aesthetic", "clip_cosine", "clip_score", "nsfw", "text_share", "pick"]
    value: float
    model: ModelUse


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """The output of a frozen network, kept for training. Only to be used for what its other fields say.

    Attributes:
        name: What it is of and what it is, such as ``caption_clip_states``; ``[a-z][a-z0-9_]*``.
        content: Hex SHA-256 of what went into the network: text, or a picture's file.
        model: The network.
        dtype: As safetensors writes it: ``F32``, ``F16``, ``BF16``.
        shape: Of the one tensor in ``data``.
        data: A safetensors file.
    """

    name: str
    content: str
    model: ModelUse
    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesis:
    """What a synthetic picture is drawn from: ``prompt`` says ``content`` in ``style``; ``seed`` starts the sampler."""

    prompt: str
    content: str
    style: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUse:
    """One step a record went through: ``params`` is canonical JSON with every threshold spelled out."""

    node: str
    stage: str
    version: int
    params: str
    models: tuple[ModelUse, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One picture with its words, from metadata row to training sample.

    Sources give the first block; each later block is written by stages. ``None`` means "not there yet", or, for what
    the metadata says, "not said".
    """

    key: str
    """Globally unique, derived from the source, ``[0-9a-z_-]+``: no dots, as WebDataset splits names there."""
    source: str
    """Name of the source file as the manifest gives it."""
    row: int
    """Position in that file, from 0."""
    source_id: str | None = None
    url: str | None = None
    alt_text: str | None = None
    stated_width: int | None = None
    stated_height: int | None = None
    aesthetic: float | None = None
    similarity: float | None = None
    watermark: float | None = None
    nsfw: float | None = None
    annotations: tuple[Annotation, ...] = ()
    group: str | None = None
    """Records of one group may show the same identity: an album, a person's name, a video."""
    synthesis: Synthesis | None = None

    original: bytes | None = None
    """The file as it was fetched."""
    sha256: str | None = None
    """Hex digest of ``original``."""

    original_width: int | None = None
    """Pixels of the upright original."""
    original_height: int | None = None
    image: Picture | None = None
    """The training target: upright, 8-bit sRGB, resized by the manifest's policy."""

    caption: str | None = None
    subjects: tuple[Subject, ...] | None = None
    dropped_subjects: tuple[DroppedSubject, ...] = ()
    controls: tuple[Control, ...] = ()
    faces: tuple[Face, ...] | None = None
    regions: tuple[Region, ...] | None = None
    scores: tuple[Score, ...] = ()
    features: tuple[Feature, ...] = ()
    prompt: InterleavedPrompt | None = None

    steps: tuple[StepUse, ...] = ()
    """Which step, with which parameters and models, made this; stamped when the record is committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why a record was not kept.

    ``dropped``: the data is unfit for this manifest. ``failed``: it could not be had or processed.
    ``fatal``: the code or the setup is wrong; the run stops.
    """

    kind: Literal["dropped", "failed", "fatal"]
    node: str
    reason: str
    message: str = ""
    thumbnail: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A record on its way through the engine. Once it has a verdict no later step sees it."""

    record: Record
    verdict: Verdict | None = None


def changed(record: Record, changes: Mapping[str, Any]) -> Record:
    """The record with other values in these fields: ``dataclasses.replace`` at half its cost, for every step's sake."""
    new: Record = _restored(Record, _values(Record)(record))
    for name, value in changes.items():
        object.__setattr__(new, name, value)
    return new


def _restored(cls: Any, values: Sequence[Any]) -> Any:
    new = object.__new__(cls)
    for name, value in zip(_names(cls) or (), values, strict=True):
        object.__setattr__(new, name, value)
    return new


def _reduced(value: Any) -> Any:
    """How to pickle a value: as frozen dataclasses with slots do it themselves, but without walking their fields."""
    cls: Any = type(value)
    return _restored, (cls, _values(cls)(value))


for _class in (Picture, Record, Row):
    copyreg.pickle(_class, _reduced)


@cache
def _names(cls: Any) -> tuple[str, ...] | None:
    """The names of a dataclass's fields; nothing for other classes."""
    return tuple(field.name for field in fields(cls)) if is_dataclass(cls) else None


@cache
def _values(cls: Any) -> Callable[[Any], tuple[Any, ...]]:
    """What gives the values of a dataclass's fields, of which it has two at least."""
    return attrgetter(*(_names(cls) or ()))


_SCALARS: Mapping[type, pa.DataType] = {
    str: pa.large_string(),
    bytes: pa.large_binary(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    InterleavedPrompt: pa.large_string(),
}


def _without_none(annotation: Any) -> Any:
    if isinstance(annotation, types.UnionType):
        (annotation,) = [arm for arm in typing.get_args(annotation) if arm is not types.NoneType]
    return annotation


def arrow_type(annotation: Any) -> pa.DataType:
    """The Arrow type of a field annotation.

    Raises:
        TypeError: If the contract has no Arrow form for it.
    """
    annotation = _without_none(annotation)
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if typing.get_origin(annotation) is Literal:
        return pa.large_string()
    if typing.get_origin(annotation) is tuple:
        return pa.large_list(arrow_type(typing.get_args(annotation)[0]))
    if isinstance(annotation, type) and is_dataclass(annotation):
        return pa.struct(list(arrow_schema(annotation)))
    raise TypeError(f"no Arrow form for a field of type {annotation!r}")


def arrow_schema(cls: Any) -> pa.Schema:
    """The Arrow schema of a contract dataclass, one column per field, in declaration order."""
    hints = typing.get_type_hints(cls)
    return pa.schema([pa.field(field.name, arrow_type(hints[field.name])) for field in fields(cls)])


def canonical_json(value: Any) -> str:
    """JSON that is equal for equal values: keys sorted, no escapes but the needed ones."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def to_plain(value: Any, without: frozenset[str] = frozenset()) -> Any:
    """A contract value as plain dicts, lists and scalars, as Arrow and JSON take them; fields ``without`` left out."""
    kind: Any = type(value)
    if kind in _LEAVES:
        return value
    if kind is tuple:
        return [to_plain(part, without) for part in value]
    if kind is InterleavedPrompt:
        return value.to_json()
    if (names := _names(kind)) is not None:
        return {name: to_plain(getattr(value, name), without) for name in names if name not in without}
    return value


_LEAVES = frozenset({str, bytes, int, float, bool, types.NoneType})


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return {name: _without_none(hint) for name, hint in typing.get_type_hints(cls).items()}


def from_plain(annotation: Any, value: Any) -> Any:
    """The contract value that ``to_plain`` turned into ``value``. Absent fields take their defaults."""
    if value is None:
        return None
    if annotation is InterleavedPrompt:
        return InterleavedPrompt.from_json(value)
    if isinstance(annotation, type) and is_dataclass(annotation):
        hints = _hints(annotation)
        return annotation(**{name: from_plain(hint, value[name]) for name, hint in hints.items() if name in value})
    if typing.get_origin(annotation) is tuple:
        part = typing.get_args(annotation)[0]
        return tuple(from_plain(part, item) for item in value)
    return value
