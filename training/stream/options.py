"""How a stream reads: nothing here changes which samples come or what they look like, but ``block`` and ``window``."""

import os
from dataclasses import dataclass, field
from pathlib import Path


def cache_folder() -> Path:
    """Where this machine keeps what it made of data sets: ``INLAY_CACHE``, else ``inlay`` in the user's cache."""
    named = os.environ.get("INLAY_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "inlay"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How a stream reads.

    Attributes:
        threads: That decode. Two keep up with most steps; more where ``--bench`` says that the trainer would wait.
        readers: Processes that make whole batches instead, each with so many threads; 0: none. They pay where samples
            take more of Python than of decoding, as those of cached features do, and steps are short. Linux only.
        prefetch: Batches that are prepared ahead at most.
        read_ahead_bytes: Encoded and decoded bytes that batches prepared ahead may take; at least one is.
        accumulation: Parts in which a rank takes its share of a global batch, one after another.
        block: Neighbouring samples that are read together; part of the order.
        window: Samples among which places are shuffled; part of the order.
        verify: Compare every member's checksum.
        follow: Take in what the engine committed since, from the next epoch on; else stay with the first epoch's units.
        max_damaged: Share of all that the run has read so far, on all ranks, that may be damaged before it stops.
        cache: Folder of the catalogs, and of remote data if ``cache_bytes`` says so.
        cache_bytes: Remote data kept on the local disk, at most; 0: none.
        connections: Reads from remote storage at one time.
        pin: Put targets into page-locked memory, so that a GPU can fetch them beside its work.
    """

    threads: int = 2
    readers: int = 0
    prefetch: int = 8
    read_ahead_bytes: int = 512 * 2**20
    accumulation: int = 1
    block: int = 8
    window: int = 65536
    verify: bool = True
    follow: bool = True
    max_damaged: float = 0.01
    cache: Path = field(default_factory=cache_folder)
    cache_bytes: int = 0
    connections: int = 32
    pin: bool = False

    def __post_init__(self) -> None:
        for name in ("threads", "prefetch", "read_ahead_bytes", "accumulation", "connections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.readers < 0:
            raise ValueError(f"readers must be 0 or more, got {self.readers}")
        if not 0 <= self.max_damaged <= 1:
            raise ValueError(f"max_damaged is a share in [0, 1], got {self.max_damaged}")
