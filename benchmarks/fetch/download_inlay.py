"""Rounds of downloads by ``stages.fetch``: ``… ADDRESS PICTURES BATCHES ROUNDS IN_FLIGHT [h2 CA_FILE]``."""

import sys
from collections.abc import Sequence

from benchmarks.fetch.rounds import run_rounds
from stages.fetch import Fetch, FetchIn, FetchOut
from stages.web.params import FetchParams


def main() -> None:
    """Download as the command line says."""
    in_flight, is_h2 = int(sys.argv[5]), len(sys.argv) > 6
    hosts = ("127.0.0.1", "localhost")
    params = FetchParams(allow_hosts=hosts, in_flight=in_flight, per_host=in_flight, http2=is_h2)
    params = params.model_copy(update={"ca_file": sys.argv[7] if len(sys.argv) > 7 else None})
    stage = Fetch(params, seed=0)

    def download(urls: Sequence[str]) -> None:
        results = stage.process([FetchIn(key=str(number), url=url) for number, url in enumerate(urls)])
        assert all(isinstance(result, FetchOut) for result in results), results

    run_rounds(download)
    stage.close()


if __name__ == "__main__":
    main()
