"""Inlay's own stream, set to do what the others do: every picture decoded at its own size, no draws."""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.stream.work import BATCH_SIZE, WORKERS, Tally, serve
from manifests.shard import read_index
from training.stream.buckets import Buckets
from training.stream.options import StreamOptions
from training.stream.prompts.unimo_g import UnimoG
from training.stream.recipe import StreamRecipe
from training.stream.stream import PromptStream
from training.stream.world import World


def count_samples(folder: Path) -> int:
    """Samples in a run's shards."""
    indices = [read_index(path) for path in sorted((folder / "shards").glob("*.parquet"))]
    return sum(len(index["key"].unique()) for index in indices)


def main(folder: str, decoder: str, crc: str = "crc") -> None:
    """Serve epochs over a run; without checksums where ``crc`` is ``no-crc``."""
    if decoder != "simplejpeg":
        raise ValueError(f"Inlay decodes JPEG by simplejpeg, got {decoder}")
    builder = UnimoG(replace_rate=1, text_only_rate=0, drop_rate=0, side=None, min_visible=0)
    stream = PromptStream(
        folder,
        recipe=StreamRecipe(builder=builder, buckets=Buckets(base=256, ratios=(1.0,)), crop="centre"),
        batch_size=BATCH_SIZE,
        seed=0,
        world=World(rank=0, size=1),
        options=StreamOptions(threads=WORKERS, verify=crc == "crc"),
    )
    batches = count_samples(Path(folder)) // BATCH_SIZE

    def epoch() -> Iterator[Any]:
        yield from islice(stream, batches)
        stream.settle()  # an epoch's cost has no loose ends

    serve(epoch, lambda batch: Tally(len(batch), batch.images.size + batch.references.buffer.size))


if __name__ == "__main__":
    {"read": main}[sys.argv[1]](*sys.argv[2:])
