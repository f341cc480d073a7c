"""webdataset in the worker processes of torch's DataLoader."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import webdataset
from torch.utils.data import DataLoader

from benchmarks.stream.work import BATCH_SIZE, WORKERS, Collate, serve

SHUFFLE = 1000
"""Samples in the shuffle buffer, as in webdataset's own examples."""


def members(sample: Mapping[str, Any]) -> dict[str, bytes]:
    """A raw sample without the library's own fields."""
    return {name: data for name, data in sample.items() if not name.startswith("__")}


def raw_samples(folder: str) -> Any:
    """All samples of the folder's shards, shuffled."""
    tars = [str(path) for path in sorted(Path(folder).glob("*.tar"))]
    return webdataset.WebDataset(tars, shardshuffle=len(tars), empty_check=False).shuffle(SHUFFLE).map(members)


def main(folder: str, decoder: str) -> None:
    """Serve epochs over the shards of a folder."""
    dataset = raw_samples(folder).batched(BATCH_SIZE, collation_fn=Collate(decoder))
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=None, num_workers=WORKERS, persistent_workers=True)

    def epoch() -> Iterator[Any]:
        return iter(loader)

    serve(epoch)


if __name__ == "__main__":
    {"read": main}[sys.argv[1]](*sys.argv[2:])
