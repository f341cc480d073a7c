"""A trainer without a model: reads batches, logs what is in each sample, saves its state now and then."""

import json
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from training.stream.collate import Batch
from training.stream.options import StreamOptions
from training.stream.recipe import STREAM_RECIPES
from training.stream.stream import PromptStream
from training.stream.world import TorchGroup, World


def open_stream(root: Path, cache: Path, world: World, batch_size: int = 24, **options: Any) -> PromptStream:
    """The stream that all of these tests read: bucketed, with masks, references and random draws."""
    return PromptStream(
        str(root),
        recipe=STREAM_RECIPES["unimo_g"](64),
        batch_size=batch_size,
        seed=3,
        world=world,
        options=StreamOptions(cache=cache, window=64, block=4, **options),
    )


def digests(batch: Batch) -> list[tuple[str, int]]:
    """Each sample's key, and a checksum of all that the trainer sees of it."""
    crcs = [zlib.crc32(np.ascontiguousarray(image)) for image in batch.images]
    for pack in (batch.references, batch.masks):
        for view, sample in zip(pack.views(), pack.sample.tolist(), strict=True):
            crcs[sample] = zlib.crc32(np.ascontiguousarray(view), crcs[sample])
    words = (repr(prompt).encode() for prompt in batch.prompts)
    return [(key, zlib.crc32(text, crc)) for key, text, crc in zip(batch.keys, words, crcs, strict=True)]


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state whole or not at all, slowly enough to be killed in between."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        text = json.dumps(state)
        for part in (text[: len(text) // 2], text[len(text) // 2 :]):
            file.write(part)
            file.flush()
            time.sleep(0.01)
        os.fsync(file.fileno())
    temporary.rename(path)


def main() -> None:
    """``worker.py ROOT OUT STEPS THREADS``: read up to a step, going on from the state in OUT."""
    root, out, steps, threads = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    world = World()
    if "WORLD_SIZE" in os.environ:
        import torch.distributed

        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        torch.distributed.init_process_group("gloo", init_method=os.environ["INIT"], rank=rank, world_size=size)
        world = World.from_env()
        assert isinstance(world.group, TorchGroup)
    saved = out / "state.json"
    with open_stream(root, out.parent / "cache", world, threads=threads) as stream:
        if saved.exists():
            stream.load_state_dict(json.loads(saved.read_text()))
        with (out / f"log-{world.size}-{world.rank}-{os.getpid()}.jsonl").open("w") as log:
            while stream.step < steps:
                batch = next(stream)
                line = {"step": batch.place.step, "rank": world.rank, "size": world.size, "samples": digests(batch)}
                log.write(json.dumps(line) + "\n")
                log.flush()
                if stream.step % 3 == 0 or stream.step == steps:
                    state = stream.state_dict()
                    (out / f"state-{world.rank}.json").write_text(json.dumps(state))
                    if world.rank == 0:
                        save(saved, state)


if __name__ == "__main__":
    main()
