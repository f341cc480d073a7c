"""Megatron-Energon, on our shards after its own prepare step."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from megatron.energon import Cooker, DefaultTaskEncoder, WorkerConfig, get_savable_loader, get_train_dataset, stateless

from benchmarks.stream.work import BATCH_SIZE, WORKERS, Collate, Packed, serve

SHUFFLE = 1000
SAMPLES = "samples"
"""File in the prepared folder that says how many samples it has."""


def convert(shards: str, out: str) -> None:
    """Link the shards into a folder and let Energon prepare it."""
    Path(out).mkdir(parents=True)
    tars = sorted(Path(shards).glob("*.tar"))
    for tar in tars:
        (Path(out) / tar.name).symlink_to(tar.resolve())
    energon = Path(sys.executable).parent / "energon"
    options = ["--non-interactive", "--split-ratio", "1,0,0", "--sample-type", "CrudeWebdataset", "--num-workers", "1"]
    subprocess.run([str(energon), "prepare", *options, out], check=True)  # noqa: S603 (our own words)
    counted = json.loads((Path(out) / ".nv-meta" / ".info.json").read_text())["shard_counts"]
    (Path(out) / SAMPLES).write_text(str(sum(counted.values())))


@stateless  # type: ignore[untyped-decorator]
def cook(sample: Any) -> Any:
    """The sample as it is."""
    return sample


class Encoder(DefaultTaskEncoder):  # type: ignore[misc]
    """Leaves samples raw, and decodes them as a batch."""

    decoder = None
    cookers = (Cooker(cook),)

    def __init__(self, decoder: str) -> None:
        super().__init__()
        self.collate = Collate(decoder)

    def batch(self, samples: Sequence[Any]) -> Packed:
        """The batch of these samples."""
        return self.collate([members(sample) for sample in samples])

    def encode_batch(self, batch: Packed) -> Packed:
        """The batch as it is."""
        return batch


def members(sample: Any) -> dict[str, bytes]:
    """A sample's members, without Energon's own fields."""
    return {name: data for name, data in sample.items() if not name.startswith("__")}


def main(folder: str, decoder: str) -> None:
    """Serve epochs over a prepared folder: so many batches each, as Energon's stream has no end."""
    loader = iter(_loader(folder, Encoder(decoder), BATCH_SIZE, WORKERS))
    batches = -(-int((Path(folder) / SAMPLES).read_text()) // BATCH_SIZE)

    def epoch() -> Iterator[Any]:
        return islice(loader, batches)

    serve(epoch)


def _loader(folder: str, encoder: Any, batch_size: int | None, workers: int) -> Any:
    config = WorkerConfig(rank=0, world_size=1, num_workers=workers)
    dataset = get_train_dataset(
        folder,
        worker_config=config,
        batch_size=batch_size,
        shuffle_buffer_size=SHUFFLE,
        max_samples_per_sequence=100,
        task_encoder=encoder,
    )
    return get_savable_loader(dataset)


class Raw(DefaultTaskEncoder):  # type: ignore[misc]
    """Leaves samples raw."""

    decoder = None
    cookers = (Cooker(cook),)


def digests(folder: str) -> None:
    """Print the SHA-256 of every member as Energon reads it, as one JSON object."""
    wanted, found = int((Path(folder) / SAMPLES).read_text()), dict[str, str]()
    keys = set[str]()
    for sample in _loader(folder, Raw(), None, 0):
        key = sample["__key__"].rpartition("/")[2]
        keys.add(key)
        found |= {f"{key}.{name}": hashlib.sha256(data).hexdigest() for name, data in members(sample).items()}
        if len(keys) == wanted:
            break
    print(json.dumps(found))


COMMANDS: dict[str, Callable[..., None]] = {"convert": convert, "read": main, "digests": digests}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
