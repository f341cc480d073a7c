"""Features: the output of a frozen network, out of a safetensors file of the shard."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic_core import from_json

from manifests.record import canonical_json
from training.stream.example import Example, ExampleFeature, SampleError

Values: TypeAlias = npt.NDArray[np.floating[Any]]
"""float32 or float16 as stored; bfloat16 is read as float32, which holds it exactly."""

LACKING = frozenset({"missing_feature", "other_model"})
"""Reasons for which a sample is whole, but not what a recipe wants; :mod:`training.stream.verify` knows no recipe."""

_OF_PICTURES = {"subject": "subjects", "head": "heads", "face": "faces", "region": "regions"}
_NAME = re.compile(r"(?P<stem>[a-z]+)[0-9]*_(?P<network>[a-z][a-z0-9_]*)_(?P<output>[a-z]+)")
T = TypeVar("T")
_LENGTH = struct.Struct("<Q")
_DTYPES: Mapping[str, str] = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read_features(
    example: Example, names: tuple[str, ...], model: str | tuple[str, ...] | None = None
) -> dict[str, Values]:
    """The features of these names; read-only, or new where they were bfloat16.

    Args:
        example: The sample.
        names: Of the features.
        model: The network that they must be of, by name, or by name and revision: ``name@revision``; or several, of any
            of which they may be.

    Raises:
        SampleError: ``missing_feature``; ``other_model``; ``other_content``: of a caption or a picture that is not the
            sample's any more; or ``bad_feature``: damaged, or of something else than the sample's JSON says.
    """
    if not names:
        return {}
    stored = {feature.name: feature for feature in example.features}
    missing = [name for name in names if name not in stored]
    if missing:
        raise SampleError(
            "missing_feature",
            f"{example.key} lacks the features {missing} and has {sorted(stored)}; name those in the recipe, or let "
            f"{_makers(missing)} of the manifest make them",
        )
    wanted = [stored[name] for name in names]
    _check_model(example.key, wanted, (model,) if isinstance(model, str) else model)
    check_contents(example, wanted)
    return {feature.name: _read(feature, example) for feature in wanted}


def _makers(names: Sequence[str]) -> str:
    """The nodes that make features of these names, as a manifest has them."""
    nodes: dict[tuple[str, bool], tuple[dict[str, None], dict[str, None]]] = {}
    for match in filter(None, map(_NAME.fullmatch, names)):
        of, outputs = nodes.setdefault((match["network"], match["stem"] == "caption"), ({}, {}))
        of[_OF_PICTURES.get(match["stem"], match["stem"])] = outputs[match["output"]] = None
    params = [
        f"{{name: {network}, of: [{', '.join(of)}], outputs: [{', '.join(outputs)}]}}"
        for (network, _), (of, outputs) in nodes.items()
    ]
    return f"embed nodes with {' and '.join(params)}" if params else "an embed node"


def _check_model(key: str, features: Sequence[ExampleFeature], models: tuple[str, ...] | None) -> None:
    for feature in features:
        if models and not {feature.model, f"{feature.model}@{feature.revision}"} & set(models):
            raise SampleError(
                "other_model",
                f"{key}: {feature.name} is of {feature.model}@{feature.revision}, the recipe's feature_model is "
                f"{' or '.join(models)}; let an embed node of the manifest make features of that, or name this one in "
                "the recipe",
            )


def check_contents(example: Example, features: Sequence[ExampleFeature]) -> None:
    """See that features are of what the sample holds now; those of what it does not hold are passed over.

    Raises:
        SampleError: ``other_content``.
    """
    hashes: dict[str, tuple[str, ...]] = {}
    for feature in features:
        stem = feature.name.partition("_")[0]
        if stem not in hashes:
            hashes[stem] = tuple(hashlib.sha256(given).hexdigest() for given in _givens(example, stem))
        if hashes[stem] and feature.content not in hashes[stem]:
            raise SampleError("other_content", f"{example.key}: {feature.name} is of {_other(example, stem)}")


def _other(example: Example, stem: str) -> str:
    if stem == "caption":
        return (
            f"another text than the caption {shorten(example.caption, 60)!r}; "
            "let the embed node of the manifest come after all that write captions"
        )
    return f"another picture than the sample's {stem}; let the embed node of the manifest come after all that write it"


def _givens(example: Example, stem: str) -> Iterator[bytes]:
    """What a network may have been given for the features that begin so: a face's crop, or the image with landmarks."""
    if stem == "caption":
        yield example.caption.encode()
    image = example.members[example.image]
    if stem == "image":
        yield image
    if member := example.controls.get(stem) or _crop(example, stem):
        yield example.members[member]
    if face := _numbered(example.faces, "face", stem):
        yield image + canonical_json(face.landmarks).encode()


def _crop(example: Example, stem: str) -> str | None:
    if head := _numbered(example.subjects, "head", stem):
        return head.head_crop
    part = (
        _numbered(example.subjects, "subject", stem)
        or _numbered(example.faces, "face", stem)
        or _numbered(example.regions, "region", stem)
    )
    return part.crop if part else None


def _numbered(parts: Sequence[T], of: str, stem: str) -> T | None:
    number = stem.removeprefix(of) if stem.startswith(of) else ""
    return parts[int(number)] if number.isdecimal() and int(number) < len(parts) else None


def _read(feature: ExampleFeature, example: Example) -> Values:
    data = example.members[feature.member]
    where = f"{example.key}.{feature.member}"
    try:
        header, stored = _opened(data)
        found = from_json(header["__metadata__"]["feature"])
        values = _values(header, stored)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise SampleError("bad_feature", f"{where}: no safetensors file of one feature: {error!r}") from None
    said = {"content": feature.content, "model": feature.model, "revision": feature.revision}
    if found != said:
        raise SampleError("bad_feature", f"{where}: the file is of {found}, the sample's JSON says {said}")
    return values


def _opened(data: bytes) -> tuple[dict[str, Any], memoryview[int]]:
    """Header and values of a safetensors file."""
    (length,) = _LENGTH.unpack_from(data)
    view = memoryview(data)[_LENGTH.size :]
    if length > len(view):
        raise ValueError(f"its header is said to have {length} bytes of {len(view)}")
    header: dict[str, Any] = from_json(bytes(view[:length]))
    return header, view[length:]


def _values(header: Mapping[str, Any], data: memoryview[int]) -> Values:
    """Those of the one tensor, which take all of the data, uncopied, as the package would not read them."""
    (tensor,) = (value for name, value in header.items() if name != "__metadata__")
    if tensor["data_offsets"] != [0, len(data)]:
        raise ValueError(f"its values are said to be at {tensor['data_offsets']} of {len(data)} bytes")
    raw = np.frombuffer(data, _DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
    return raw if tensor["dtype"] != "BF16" else (raw.astype("<u4") << np.uint32(16)).view("<f4")
