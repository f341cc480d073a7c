"""Rounds of downloads by img2dataset's own function in its own pool of threads: ``… PICTURES BATCHES ROUNDS THREADS``.

Runs in an environment of img2dataset's, without Inlay's packages.
"""

import sys
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool

from img2dataset.downloader import download_image_with_retry

from benchmarks.fetch.rounds import run_rounds

DIRECTIVES = ["noai", "noimageai", "noindex", "noimageindex"]


def _get(row: tuple[int, str]) -> int:
    _, stream, error = download_image_with_retry(
        row, timeout=10, retries=0, user_agent_token=None, disallowed_header_directives=DIRECTIVES
    )
    assert error is None, error
    return len(stream.read())


def download(urls: Sequence[str]) -> None:
    """Download all, as its ``download_shard`` does: a new pool of threads each time."""
    with ThreadPool(int(sys.argv[5])) as pool:
        for _size in pool.imap_unordered(_get, enumerate(urls)):
            pass


if __name__ == "__main__":
    run_rounds(download)
