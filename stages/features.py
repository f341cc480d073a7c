"""Features as bytes: a safetensors file with one tensor that says itself what it is of and what made it.

The format is that of https://github.com/huggingface/safetensors, in which any of its libraries reads the file. It is
written here because those need torch for bfloat16, and because equal features are to be equal bytes.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from manifests.record import Feature, ModelUse, Picture, Point, canonical_json, to_plain

Values: TypeAlias = npt.NDArray[Any]
"""float32, or float16 where that is how it is stored; bfloat16 is read as float32, which holds it exactly."""

Storage: TypeAlias = Literal["float32", "float16", "bfloat16"]

TENSOR = "value"
"""Name of the tensor in the file."""

_ABOUT = "feature"
_LENGTH = struct.Struct("<Q")
_DTYPES: Mapping[str, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_READ: Mapping[str, str] = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class FeatureError(ValueError):
    """A feature that is damaged, or no finite number."""


@dataclass(frozen=True, slots=True)
class FaceIn:
    """A face as a network for faces sees it: by its landmarks in the picture."""

    image: Picture
    landmarks: tuple[Point, ...]

    @property
    def can_be_aligned(self) -> bool:
        """Whether there are five landmarks, not all in one place, and all are numbers."""
        numbers = [side for point in self.landmarks for side in (point.x, point.y)]
        return len(self.landmarks) == 5 and len(set(self.landmarks)) > 1 and all(map(math.isfinite, numbers))


def content_hash(given: str | Picture | FaceIn) -> str:
    """Hex SHA-256 of what goes into a network: a text in UTF-8, a picture's file, or that with landmarks as JSON."""
    if isinstance(given, str):
        return hashlib.sha256(given.encode()).hexdigest()
    if isinstance(given, Picture):
        return hashlib.sha256(given.data).hexdigest()
    return hashlib.sha256(given.image.data + canonical_json(to_plain(given.landmarks)).encode()).hexdigest()


def pack(name: str, content: str, model: ModelUse, values: npt.NDArray[np.float32], storage: Storage) -> Feature:
    """A network's output as a feature.

    Args:
        name: What it is of and what it is.
        content: Of what went in, by :func:`content_hash`.
        model: The network.
        values: Its output, of any shape.
        storage: How to store it.

    Raises:
        FeatureError: If a value is, or in this storage becomes, no finite number.
    """
    data = _stored(values, storage)
    dtype, shape = _DTYPES[storage], values.shape
    if not np.isfinite(_loaded(data, dtype, shape)).all():
        raise FeatureError(f"{name}: values up to {np.abs(values).max()} are no finite numbers as {storage}")
    about = {"content": content, "model": model.name, "revision": model.revision}
    tensor = {"dtype": dtype, "shape": list(shape), "data_offsets": [0, len(data)]}
    header = canonical_json({"__metadata__": {_ABOUT: canonical_json(about)}, TENSOR: tensor}).encode()
    header += b" " * (-len(header) % 8)
    file = _LENGTH.pack(len(header)) + header + data
    return Feature(name=name, content=content, model=model, dtype=dtype, shape=shape, data=file)


def unpack(name: str, data: bytes) -> Feature:
    """The feature in a file that :func:`pack` wrote, such as a shard's member ``KEY.NAME.safetensors``.

    Raises:
        FeatureError: If it is damaged, or another's.
    """
    try:
        header = json.loads(_header(data))
        about, tensor = json.loads(header["__metadata__"][_ABOUT]), header[TENSOR]
        feature = Feature(
            name=name,
            content=about["content"],
            model=ModelUse(name=about["model"], revision=about["revision"]),
            dtype=tensor["dtype"],
            shape=tuple(tensor["shape"]),
            data=data,
        )
        values_of(feature)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise FeatureError(f"{name}: no safetensors file of a feature: {error!r}") from None
    return feature


def values_of(feature: Feature) -> Values:
    """A feature's values, whatever they are of; read-only.

    Raises:
        FeatureError: If the file is damaged.
    """
    try:
        return _loaded(feature.data[_LENGTH.size + len(_header(feature.data)) :], feature.dtype, feature.shape)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise FeatureError(f"{feature.name}: no safetensors file of a feature: {error!r}") from None


def _header(data: bytes) -> bytes:
    (length,) = _LENGTH.unpack_from(data)
    header = data[_LENGTH.size : _LENGTH.size + length]
    if len(header) != length:
        raise ValueError(f"its header should have {length} bytes and has {len(header)}")
    return header


def _stored(values: npt.NDArray[np.float32], storage: Storage) -> bytes:
    if storage != "bfloat16":
        with np.errstate(over="ignore"):
            return values.astype("<f4" if storage == "float32" else "<f2").tobytes()
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)  # ties to even
    return rounded.astype("<u2").tobytes()


def _loaded(data: bytes, dtype: str, shape: tuple[int, ...]) -> Values:
    raw = np.frombuffer(data, _READ[dtype]).reshape(shape)
    return raw if dtype != "BF16" else (raw.astype("<u4") << np.uint32(16)).view("<f4")
