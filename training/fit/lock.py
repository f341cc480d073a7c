"""One process at a time trains into a folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.fit.runs import RunError

NAME = "lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a run's folder to this process until it ends or is killed; where the file system has no locks, do nothing.

    Raises:
        RunError: If another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NAME).open("w") as file:
        if not _is_free(file.fileno()):
            raise RunError(f"{folder}: another process trains into it now; wait for it, or give another --out")
        yield


def _is_free(file: int) -> bool:
    """Whether the lock is not another's; it is this process's then."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True
