"""mosaicml-streaming, on the data in its own format."""

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.stream.loaders.columns import COLUMNS, as_columns, as_members, read_shards
from benchmarks.stream.work import BATCH_SIZE, WORKERS, Collate, Packed, serve


def import_torchvision() -> None:
    """Import what mosaicml-streaming imports, also where torchvision was built for another torch than is installed."""
    root = Path(__file__).parents[3]
    runpy.run_path(str(root / "stages" / "models" / "torchvision_compat.py"))["ensure_torchvision"]()


def convert(shards: str, out: str) -> None:
    """Write the shards' samples as MDS: absent crops are empty."""
    import_torchvision()
    from streaming import MDSWriter

    with MDSWriter(out=out, columns=dict.fromkeys(COLUMNS, "bytes"), size_limit="64mb") as writer:
        for sample in read_shards(Path(shards)):
            writer.write(as_columns(sample))


def main(folder: str, decoder: str) -> None:
    """Serve epochs over a converted folder."""
    import_torchvision()
    from streaming import StreamingDataLoader, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    collate = Collate(decoder)

    def batch(rows: list[dict[str, bytes]]) -> Packed:
        return collate([as_members(row) for row in rows])

    dataset = StreamingDataset(local=folder, shuffle=True, batch_size=BATCH_SIZE)
    loader = StreamingDataLoader(
        dataset, batch_size=BATCH_SIZE, num_workers=WORKERS, persistent_workers=True, collate_fn=batch
    )

    def epoch() -> Iterator[Any]:
        return iter(loader)

    serve(epoch)


if __name__ == "__main__":
    {"convert": convert, "read": main}[sys.argv[1]](*sys.argv[2:])
