"""Samples to a batch: few large arrays, fit for pinned memory and one copy each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from zlib_ng import zlib_ng

from training.stream.features import Values
from training.stream.geometry import Framing, Pixels
from training.stream.prepare import Prepared
from training.stream.prompts.base import Prompt

Array: TypeAlias = npt.NDArray[Any]
T = TypeVar("T", bound=np.generic)


class Allocate(Protocol):
    """Gives an array of a shape and type with anything in it, such as one in pinned memory."""

    def __call__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """The array, in C order."""
        ...


@dataclass(frozen=True, slots=True)
class Packed(Generic[T]):
    """Pictures or masks of any sizes in one buffer.

    Attributes:
        buffer: All values, one picture after another.
        shapes: Of each.
        sample: The sample in the batch that each belongs to, int64.
        reference: Its place among that sample's references, int64.
    """

    buffer: npt.NDArray[T]
    shapes: tuple[tuple[int, ...], ...]
    sample: npt.NDArray[np.int64]
    reference: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each starts in the buffer, and the end of the last."""
        return _offsets(self.shapes)

    def views(self) -> tuple[npt.NDArray[T], ...]:
        """Each as a view on the buffer."""
        offsets = self.offsets.tolist()
        parts = zip(offsets, offsets[1:], self.shapes, strict=False)
        return tuple(self.buffer[start:end].reshape(shape) for start, end, shape in parts)

    @property
    def stacked(self) -> npt.NDArray[T]:
        """All as one view on the buffer, the first axis counting them.

        Raises:
            ValueError: If they are of several shapes, or there is none.
        """
        if len(set(self.shapes)) != 1:
            raise ValueError(f"to be stacked all must be of one shape, got {sorted(set(self.shapes))}")
        return self.buffer.reshape(len(self.shapes), *self.shapes[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a batch stands: which step of which epoch, and its bucket."""

    epoch: int
    step: int
    ratio: float
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a trainer takes a step on.

    Attributes:
        place: Step, epoch and bucket.
        keys: Of the samples.
        framings: How their targets were framed.
        images: Targets, uint8, (sample, height, width, 3), sRGB; of sides 0 where the recipe wants none.
        prompts: Their prompts.
        references: Pixels of the references that have any, in the order of samples and prompts.
        masks: Bool, where the targets show references, for those where that is known and wanted.
        controls: Control images by kind, uint8, framed as the targets are; ``sample`` says which samples have one.
        features: By name: (sample, …) where all samples have it in one shape, else packed, those that some have.
    """

    place: Place
    keys: tuple[str, ...]
    framings: tuple[Framing, ...]
    images: Pixels
    prompts: tuple[Prompt, ...]
    references: Packed[np.uint8]
    masks: Packed[np.bool_]
    controls: Mapping[str, Packed[np.uint8]]
    features: Mapping[str, Values | Packed[Any]]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes of its targets, references, masks, controls and features."""
        parts = (self.references, self.masks, *self.controls.values(), *self.features.values())
        return self.images.nbytes + sum((part.buffer if isinstance(part, Packed) else part).nbytes for part in parts)


def allocate(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """An array in ordinary memory."""
    return np.empty(shape, dtype)


def collate(
    samples: Sequence[Prepared], place: Place, images: Pixels | None = None, allocate: Allocate = allocate
) -> Batch:
    """The batch of some samples.

    Args:
        samples: Of one bucket.
        place: Of the batch.
        images: Array that the targets were decoded into, (sample, height, width, 3); without it they are copied.
        allocate: Gives the memory.
    """
    images = allocate((len(samples), *samples[0].image.shape), np.uint8) if images is None else images
    for row, sample in zip(images, samples, strict=True):
        if not np.may_share_memory(row, sample.image):
            row[...] = sample.image
    kinds = sorted({kind for sample in samples for kind in sample.controls})
    return Batch(
        place=place,
        keys=tuple(sample.key for sample in samples),
        framings=tuple(sample.framing for sample in samples),
        images=images,
        prompts=tuple(sample.prompt for sample in samples),
        references=_pack([sample.references for sample in samples], np.uint8, allocate),
        masks=_pack([sample.masks for sample in samples], np.bool_, allocate),
        controls={
            kind: _pack([(sample.controls.get(kind),) for sample in samples], np.uint8, allocate) for kind in kinds
        },
        features=_features(samples, allocate),
    )


def _pack(rows: Sequence[Sequence[npt.NDArray[T] | None]], dtype: type[T], allocate: Allocate) -> Packed[T]:
    found = [
        (row, place, array)
        for row, arrays in enumerate(rows)
        for place, array in enumerate(arrays)
        if array is not None
    ]
    shapes = tuple(array.shape for _, _, array in found)
    buffer = allocate((int(_offsets(shapes)[-1]),), dtype)
    packed = Packed(
        buffer,
        shapes,
        np.array([row for row, _, _ in found], np.int64),
        np.array([place for _, place, _ in found], np.int64),
    )
    if found:
        np.concatenate([array.reshape(-1) for _, _, array in found], out=buffer)
    return packed


def _offsets(shapes: Sequence[tuple[int, ...]]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *(math.prod(shape) for shape in shapes)], dtype=np.int64)


def _features(samples: Sequence[Prepared], allocate: Allocate) -> dict[str, Values | Packed[Any]]:
    names = dict.fromkeys(name for sample in samples for name in sample.features)
    return {name: _feature([sample.features.get(name) for sample in samples], allocate) for name in names}


def _feature(values: Sequence[Values | None], allocate: Allocate) -> Values | Packed[Any]:
    """One array, if all are there and of one shape."""
    there = [value for value in values if value is not None]
    dtype = np.result_type(*{value.dtype for value in there})
    if len(there) < len(values) or len({value.shape for value in there}) > 1:
        return _pack([(value,) for value in values], dtype.type, allocate)
    return np.stack(there, out=allocate((len(there), *there[0].shape), dtype))


def batch_crc(batch: Batch) -> int:
    """CRC-32 over all pixels, masks, features, prompts, framings and keys: equal for equal batches."""
    packs: dict[str, Packed[Any]] = {"references": batch.references, "masks": batch.masks}
    packs |= {f"control {kind}": pack for kind, pack in batch.controls.items()}
    packs |= {f"feature {name}": value for name, value in batch.features.items() if isinstance(value, Packed)}
    plain = {f"feature {name}": value for name, value in batch.features.items() if not isinstance(value, Packed)}
    shapes = {name: pack.shapes for name, pack in packs.items()} | {name: part.shape for name, part in plain.items()}
    said = batch.place, batch.keys, batch.framings, batch.prompts, sorted(shapes.items())
    crc = zlib_ng.crc32(repr(said).encode())
    arrays = [batch.images, *(plain[name] for name in sorted(plain))]
    arrays += [part for name in sorted(packs) for part in _parts(packs[name])]
    for array in arrays:
        crc = zlib_ng.crc32(np.ascontiguousarray(array).data, crc)
    return crc


def _parts(pack: Packed[Any]) -> tuple[Array, Array, Array]:
    return pack.buffer, pack.sample, pack.reference
