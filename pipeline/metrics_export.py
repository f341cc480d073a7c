"""Where a run's metrics can be had while it goes: a port that Prometheus scrapes, or a file for node_exporter."""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from manifests.unit_record import UnitRecord
from pipeline.live import Live
from pipeline.metrics import families, live_families
from pipeline.progress import Progress

_FILE_EVERY_S = 5.0
"""Prometheus asks no more often, as people set it up."""


class _Metrics(Collector):
    """The metrics of what a progress is told, made when they are asked for: all sums are of the same units."""

    def __init__(self, progress: Progress, live: Live) -> None:
        self._progress = progress
        self._live = live
        self.registry = CollectorRegistry()

    def begin(self) -> None:
        """From now on there is a run to tell of."""
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        with self._progress.lock:
            sums = families(self._progress.info, self._progress.totals)
        return (*sums, *live_families(self._progress.info.name, self._live))


class MetricsPort(Progress):
    """Serves the metrics over HTTP at ``/metrics`` while the run goes on; says where, once it does."""

    def __init__(self, host: str, port: int, say: Callable[[str], object], live: Live | None = None) -> None:
        self._host = host
        self._port = port
        self._say = say
        self._metrics = _Metrics(self, live or Live())

    @property
    def url(self) -> str:
        """Where they are, once started; with port 0, on a free one."""
        return f"http://{self._host}:{self._server.server_port}/metrics"

    def start(self) -> None:
        """Begin to serve.

        Raises:
            OSError: If the port is taken or the host is not this machine's.
        """
        self._metrics.begin()
        try:
            self._server, self._thread = start_http_server(self._port, self._host, self._metrics.registry)
        except (OSError, OverflowError) as error:
            raise OSError(
                f"metrics cannot be served at {self._host}:{self._port}: {error}; choose another --metrics-port"
            ) from error
        self._say(f"metrics: {self.url}")

    def update(self, record: UnitRecord) -> None:
        """Nothing: who asks has them."""

    def stop(self) -> None:
        """End serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class MetricsFile(Progress):
    """Keeps a file for node_exporter's textfile collector, replaced as a whole every few seconds and at the end."""

    def __init__(self, path: Path, every_s: float = _FILE_EVERY_S, live: Live | None = None) -> None:
        self._path = path
        self._every_s = every_s
        self._metrics = _Metrics(self, live or Live())

    def start(self) -> None:
        """Write the first, and begin the clock.

        Raises:
            OSError: If it cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._metrics.begin()
        self._write()
        self._stopped = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)
        self._clock.start()

    def _tick(self) -> None:
        while not self._stopped.wait(self._every_s):
            with suppress(OSError):  # the next may get through; a run does not end for want of its metrics
                self._write()

    def update(self, record: UnitRecord) -> None:
        """Nothing: the clock writes."""

    def stop(self) -> None:
        """Write the last; it stays."""
        self._stopped.set()
        self._clock.join()
        self._write()

    def _write(self) -> None:
        write_to_textfile(str(self._path), self._metrics.registry)
