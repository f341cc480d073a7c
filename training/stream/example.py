"""The example: one verified sample of a shard, as prompt builders and decoders see it."""

from collections.abc import Mapping, Sequence
from json import dumps, loads
from typing import Any

from msgspec import DecodeError, Struct, ValidationError, convert, json

from manifests.record import Span
from manifests.shard import check_version

PICTURE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "avif", "bmp", "gif", "tif", "tiff")
TEXT_SUFFIXES = ("txt", "caption")


class SampleError(ValueError):
    """A sample whose bytes are not what they should be. ``reason`` is a short, stable label."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ExampleSubject(Struct, frozen=True, kw_only=True, gc=False):
    """A subject the caption names. Members are names in the shard, ``None`` where there is none.

    ``box`` is ``x0 y0 x1 y1`` in pixels of the stored target, as is ``head_box``, of a person's head; ``None`` where
    that is not known.
    """

    phrase: str
    span: Span
    head: str
    head_span: Span
    is_plural: bool
    box: tuple[float, float, float, float] | None
    crop: str | None
    mask: str | None
    head_box: tuple[float, float, float, float] | None
    head_crop: str | None


class ExamplePart(Struct, frozen=True, kw_only=True, gc=False):
    """A face or a region: its crop, of a face its landmarks, of a region its ``kind`` and mask.

    ``box`` as of a subject, ``landmarks`` as the JSON has them.
    """

    kind: str
    box: tuple[float, float, float, float]
    crop: str | None
    mask: str | None
    landmarks: Any = ()


class ExampleFeature(Struct, frozen=True, kw_only=True, gc=False):
    """A frozen network's output in the shard; the fields as in :class:`manifests.record.Feature`."""

    member: str
    name: str
    content: str
    model: str
    revision: str


class Example(Struct, frozen=True, kw_only=True, gc=False):
    """One sample: the bytes of its members, and what its JSON says of them.

    Attributes:
        key: The sample's key.
        members: Verified bytes by name in the shard, the JSON left out.
        image: Name of the training target.
        width: Of the stored target, pixels; as the index says.
        height: Likewise.
        captions: The caption first, then other texts for the same picture; the empty text if there is none.
        subjects: In the order of the caption.
        controls: Names of the control images by kind (``canny``, ``depth``, ``sketch``).
    """

    key: str
    members: Mapping[str, bytes]
    image: str
    width: int
    height: int
    captions: tuple[str, ...]
    subjects: tuple[ExampleSubject, ...] = ()
    faces: tuple[ExamplePart, ...] = ()
    regions: tuple[ExamplePart, ...] = ()
    controls: Mapping[str, str]
    features: tuple[ExampleFeature, ...] = ()

    @property
    def caption(self) -> str:
        """The text that spans count in."""
        return self.captions[0]


class _Picture(Struct, frozen=True, gc=False):
    format: str


class _Box(Struct, frozen=True, gc=False):
    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        if not (self.x0 < self.x1 and self.y0 < self.y1):
            raise ValueError(f"a box needs x0 < x1 and y0 < y1, got {self}")


class _Subject(Struct, frozen=True, gc=False):
    phrase: str
    span: Span
    head: str
    head_span: Span
    is_plural: bool
    box: _Box | None
    crop: _Picture | None
    mask: Any
    head_box: _Box | None = None
    head_crop: _Picture | None = None


class _Part(Struct, frozen=True, gc=False):
    box: _Box
    crop: _Picture | None
    kind: str | None = None
    mask: Any = None
    landmarks: Any = ()


class _Control(Struct, frozen=True, gc=False):
    kind: str
    picture: _Picture


class _Model(Struct, frozen=True, gc=False):
    name: str
    revision: str


class _Feature(Struct, frozen=True, gc=False):
    name: str
    content: str
    model: _Model


class _Ours(Struct, frozen=True, gc=False):
    """What of a record's JSON, :meth:`manifests.record.Record.to_json`, a prompt is built from."""

    schema_version: int
    image: _Picture
    caption: str | None
    controls: tuple[_Control, ...]
    subjects: tuple[_Subject, ...] | None
    alt_text: str | None = None
    faces: tuple[_Part, ...] | None = None
    regions: tuple[_Part, ...] | None = None
    features: tuple[_Feature, ...] | None = None


_DECODER = json.Decoder(_Ours)


def parse_example(key: str, members: Mapping[str, bytes], width: int, height: int) -> Example:
    """The example that a sample's members make: one of ours, or any image with text.

    Raises:
        SampleError: ``bad_json``, ``missing_reference``, ``no_image``: the sample is not whole.
        SchemaVersionError: If a newer Inlay wrote it.
    """
    plain = _json(key, members)
    rest = {name: data for name, data in members.items() if name != "json"}
    if isinstance(plain, _Ours):
        return _ours(key, rest, plain, width, height)
    image = next((name for name in rest if name.lower() in PICTURE_SUFFIXES), None)
    if image is None:
        raise SampleError("no_image", f"{key}: none of its members {sorted(rest)} is a picture's")
    return Example(
        key=key,
        members=rest,
        image=image,
        width=width,
        height=height,
        captions=_foreign_captions(key, rest, plain),
        controls={},
    )


def _json(key: str, members: Mapping[str, bytes]) -> _Ours | dict[str, Any]:
    """A record of ours, by the fast way if it is as it should be; or any other object."""
    try:
        ours = _DECODER.decode(members["json"])
        check_version(ours.schema_version, key)
    except (KeyError, UnicodeDecodeError, DecodeError, RecursionError):
        return _any_json(key, members)
    return ours


def _any_json(key: str, members: Mapping[str, bytes]) -> _Ours | dict[str, Any]:
    try:
        plain = loads(members["json"]) if "json" in members else {}
    except (ValueError, RecursionError) as error:
        raise SampleError("bad_json", f"{key}.json: {error}") from None
    if not isinstance(plain, dict):
        raise SampleError("bad_json", f"{key}.json: expected an object, got {type(plain).__name__}")
    if "schema_version" not in plain:
        return plain
    version = plain["schema_version"]
    if not isinstance(version, int):
        raise SampleError("bad_json", f"{key}.json: its schema_version is {version!r}, no number")
    check_version(version, key)
    try:
        dumps(plain, ensure_ascii=False).encode()
        return convert(plain, _Ours)
    except (ValidationError, UnicodeEncodeError) as error:
        raise SampleError("bad_json", f"{key}.json: not as this Inlay writes it ({error})") from None


def _foreign_captions(key: str, members: Mapping[str, bytes], plain: Mapping[str, Any]) -> tuple[str, ...]:
    """Texts of a plain WebDataset: its text members, else what its JSON calls caption, text or prompt."""
    try:
        texts = [members[name].decode() for name in TEXT_SUFFIXES if name in members]
    except UnicodeDecodeError as error:
        raise SampleError("bad_text", f"{key}: {error}") from None
    texts += [plain[name] for name in ("caption", "text", "prompt") if isinstance(plain.get(name), str)]
    return tuple(dict.fromkeys(map(_encodable, texts))) or ("",)


def _encodable(text: str) -> str:
    """The text with ``?`` for halves of characters, which JSON's escapes can leave and no tokenizer takes."""
    return text.encode(errors="replace").decode()


def _ours(key: str, members: Mapping[str, bytes], plain: _Ours, width: int, height: int) -> Example:
    example = Example(
        key=key,
        members=members,
        image=plain.image.format,
        width=width,
        height=height,
        captions=tuple(dict.fromkeys(text for text in (plain.caption, plain.alt_text) if text)) or ("",),
        subjects=tuple(_subject(number, part) for number, part in enumerate(plain.subjects or ())),
        faces=tuple(_part("face", number, part) for number, part in enumerate(plain.faces or ())),
        regions=tuple(_part("region", number, part) for number, part in enumerate(plain.regions or ())),
        controls={part.kind: f"{part.kind}.{part.picture.format}" for part in plain.controls},
        features=tuple(_feature(part) for part in plain.features or ()),
    )
    missing = [name for name in _named(example) if not members.get(name)]
    if missing:
        raise SampleError("missing_reference", f"{key}: its JSON names {missing}, but the shard lacks them")
    return example


def _named(example: Example) -> Sequence[str]:
    """Every member that the JSON speaks of."""
    parts = [name for part in (*example.faces, *example.regions) for name in (part.crop, part.mask)]
    subjects = [name for part in example.subjects for name in (part.crop, part.mask, part.head_crop)]
    features = [feature.member for feature in example.features]
    return [example.image, *(name for name in (*subjects, *parts, *example.controls.values(), *features) if name)]


def _subject(number: int, part: _Subject) -> ExampleSubject:
    return ExampleSubject(
        phrase=part.phrase,
        span=part.span,
        head=part.head,
        head_span=part.head_span,
        is_plural=part.is_plural,
        box=_box(part.box) if part.box else None,
        crop=_member(f"subject{number}", part.crop),
        mask=f"subject{number}.mask.png" if part.mask else None,
        head_box=_box(part.head_box) if part.head_box else None,
        head_crop=_member(f"subject{number}.head", part.head_crop),
    )


def _part(stem: str, number: int, part: _Part) -> ExamplePart:
    return ExamplePart(
        kind=part.kind or stem,
        box=_box(part.box),
        crop=_member(f"{stem}{number}", part.crop),
        mask=f"{stem}{number}.mask.png" if part.mask else None,
        landmarks=part.landmarks,
    )


def _feature(part: _Feature) -> ExampleFeature:
    return ExampleFeature(
        member=f"{part.name}.safetensors",
        name=part.name,
        content=part.content,
        model=part.model.name,
        revision=part.model.revision,
    )


def _box(box: _Box) -> tuple[float, float, float, float]:
    return box.x0, box.y0, box.x1, box.y1


def _member(stem: str, picture: _Picture | None) -> str | None:
    return f"{stem}.{picture.format}" if picture else None
