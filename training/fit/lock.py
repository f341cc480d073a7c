"""One process at a time trains into a folder."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.fit.runs import RunError

NAME = "lock"

_PATIENCE_S, _LOOK_EVERY_S = 10.0, 0.2
"""A process that was just killed, and is begun again elsewhere, may take a moment to be gone."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a run's folder to this process until it ends or is killed; where the file system has no locks, do nothing.

    Raises:
        RunError: If another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NAME).open("w") as file:
        since = time.monotonic()
        while not _is_free(file.fileno()):
            if time.monotonic() - since > _PATIENCE_S:
                raise RunError(f"{folder}: another process trains into it now; wait for it, or give another --out")
            time.sleep(_LOOK_EVERY_S)
        yield


def _is_free(file: int) -> bool:
    """Whether the lock is not another's; it is this process's then."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True
