"""No loader: every picture decoded from memory by threads. What no loader can go below."""

import sys
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.stream.work import BATCH_SIZE, DECODERS, WORKERS, Tally, serve


def read_pictures(shards: Sequence[Path]) -> list[list[bytes]]:
    """The JPEGs of every sample."""
    pictures: dict[str, list[bytes]] = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            for info in tar:
                if info.name.endswith(".jpg"):
                    file = tar.extractfile(info)
                    assert file
                    pictures.setdefault(info.name.partition(".")[0], []).append(file.read())
    return list(pictures.values())


def main(folder: str, decoder: str) -> None:
    """Serve epochs over the shards of a folder."""
    pictures = read_pictures(sorted(Path(folder).glob("*.tar")))
    batches = [pictures[start : start + BATCH_SIZE] for start in range(0, len(pictures), BATCH_SIZE)]
    decode = DECODERS[decoder]

    def work(batch: Sequence[Sequence[bytes]]) -> Tally:
        return Tally(len(batch), sum(decode(picture).size for sample in batch for picture in sample))

    def epoch() -> Iterator[Tally]:
        with ThreadPoolExecutor(WORKERS) as threads:
            yield from threads.map(work, batches)

    serve(epoch, lambda tallied: tallied)


if __name__ == "__main__":
    {"read": main}[sys.argv[1]](*sys.argv[2:])
