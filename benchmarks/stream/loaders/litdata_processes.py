"""litData, on the data in its own format."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from litdata import StreamingDataLoader, StreamingDataset, optimize

from benchmarks.stream.loaders.columns import as_columns, as_members, read_shards
from benchmarks.stream.work import BATCH_SIZE, WORKERS, Collate, Packed, serve


def rows(folder: str) -> Iterator[dict[str, bytes]]:
    """The rows of a folder of shards, which are all the input there is."""
    for sample in read_shards(Path(folder)):
        yield as_columns(sample)


def convert(shards: str, out: str) -> None:
    """Write the shards' samples as litData's chunks: absent crops are empty."""
    optimize(fn=rows, inputs=[shards], output_dir=out, chunk_bytes="64MB", num_workers=1)


def main(folder: str, decoder: str) -> None:
    """Serve epochs over a converted folder."""
    collate = Collate(decoder)

    def batch(items: list[dict[str, bytes]]) -> Packed:
        return collate([as_members(item) for item in items])

    loader = StreamingDataLoader(
        StreamingDataset(folder, shuffle=True, drop_last=False),
        batch_size=BATCH_SIZE,
        num_workers=WORKERS,
        persistent_workers=True,
        collate_fn=batch,
    )

    def epoch() -> Iterator[Any]:
        return iter(loader)

    serve(epoch)


if __name__ == "__main__":
    {"convert": convert, "read": main}[sys.argv[1]](*sys.argv[2:])
