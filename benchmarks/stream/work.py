"""The work that every loader does, and the loop in which its process does it on demand and says what it cost.

Runs in the environments of the loaders, so it imports nothing of ours.
"""

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import psutil
import simplejpeg
import torch
from PIL import Image

BATCH_SIZE = 32
WORKERS = 2
Decode: TypeAlias = Callable[[bytes], npt.NDArray[np.uint8]]
Members: TypeAlias = Mapping[str, bytes]
"""A sample's bytes by name without key: the target is ``jpg``, crops end in ``.jpg``, the rest is ``json``."""


class Packed(NamedTuple):
    """A batch as few tensors, the form in which it goes from process to process at the least cost.

    Attributes:
        targets: ``uint8``, batch x 256 x 256 x 3.
        crops: ``uint8``, the pixels of all crops one after another.
        sizes: ``int32``, crops x 2: height and width of each.
        captions: One a sample.
    """

    targets: torch.Tensor
    crops: torch.Tensor
    sizes: torch.Tensor
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass over the data: what came, and what it cost.

    ``memory``: bytes resident in the process tree, sampled every fifty batches.
    """

    samples: int
    pixels: int
    cpu_s: float
    wall_s: float
    memory: tuple[int, ...]


def decode_pil(data: bytes) -> npt.NDArray[np.uint8]:
    """A JPEG's pixels, by Pillow."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def decode_simplejpeg(data: bytes) -> npt.NDArray[np.uint8]:
    """A JPEG's pixels, by libjpeg-turbo; as exact as Pillow's."""
    pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
    return pixels


DECODERS: dict[str, Decode] = {"pil": decode_pil, "simplejpeg": decode_simplejpeg}
"""By name."""


@dataclass(frozen=True, slots=True)
class Collate:
    """Raw samples to a batch: JSON read, every picture decoded, pixels packed."""

    decoder: str

    def __call__(self, samples: Sequence[Members]) -> Packed:
        """The batch of these samples."""
        decode = DECODERS[self.decoder]
        crops = [decode(data) for sample in samples for name, data in sample.items() if name.endswith(".jpg")]
        return Packed(
            targets=torch.from_numpy(np.stack([decode(sample["jpg"]) for sample in samples])),
            crops=torch.from_numpy(np.concatenate([crop.reshape(-1) for crop in crops])),
            sizes=torch.tensor([crop.shape[:2] for crop in crops], dtype=torch.int32),
            captions=tuple(json.loads(bytes(sample["json"]))["caption"] for sample in samples),
        )


@dataclass(frozen=True, slots=True)
class Tally:
    """What a batch held: samples, and bytes of pixels."""

    samples: int
    pixels: int


def tally(batch: Packed) -> Tally:
    """Count a batch."""
    return Tally(len(batch.captions), batch.targets.numel() + batch.crops.numel())


def serve(epoch: Callable[[], Iterable[Any]], count: Callable[[Any], Tally] = tally) -> None:
    """Do an epoch for every line on standard input, and answer each with its cost as a line of JSON."""
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not pass for an answer
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(asdict(run(epoch, count))), file=answers, flush=True)


def run(epoch: Callable[[], Iterable[Any]], count: Callable[[Any], Tally]) -> Epoch:
    """Do one epoch and say what it cost."""
    samples = pixels = 0
    memory: list[int] = []
    cpu, wall = tree_cpu_s(), time.perf_counter()
    for number, batch in enumerate(epoch()):
        counted = count(batch)
        samples, pixels = samples + counted.samples, pixels + counted.pixels
        if number % 50 == 0:
            memory.append(tree_memory())
    return Epoch(
        samples=samples,
        pixels=pixels,
        cpu_s=tree_cpu_s() - cpu,
        wall_s=time.perf_counter() - wall,
        memory=tuple(memory),
    )


def tree_cpu_s() -> float:
    """CPU seconds, user and system, of this process, its living descendants, and the dead ones that were waited for."""
    return sum(sum(times) for process in _tree() if (times := _cpu_times(process)))


def _cpu_times(process: psutil.Process) -> tuple[float, ...]:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return ()
    return times.user, times.system, times.children_user, times.children_system


def tree_memory() -> int:
    """Bytes resident in this process and its descendants; shared pages count as often as they are mapped."""
    total = 0
    for process in _tree():
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _tree() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]
