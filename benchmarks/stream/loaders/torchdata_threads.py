"""torchdata's nodes: tars read by webdataset in one thread, batches decoded in others."""

import sys
from collections.abc import Iterator
from typing import Any

from torchdata.nodes import Batcher, IterableWrapper, Loader, ParallelMapper, Prefetcher

from benchmarks.stream.loaders.webdataset_processes import raw_samples
from benchmarks.stream.work import BATCH_SIZE, WORKERS, Collate, serve


def main(folder: str, decoder: str) -> None:
    """Serve epochs over the shards of a folder."""
    batches = Batcher(IterableWrapper(raw_samples(folder)), BATCH_SIZE, drop_last=False)
    decoded = ParallelMapper(batches, Collate(decoder), num_workers=WORKERS, method="thread", in_order=True)
    loader = Loader(Prefetcher(decoded, prefetch_factor=2))

    def epoch() -> Iterator[Any]:
        return iter(loader)

    serve(epoch)


if __name__ == "__main__":
    {"read": main}[sys.argv[1]](*sys.argv[2:])
