"""How fast a stream reads here, and whether a trainer would wait for it."""

import itertools
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.table import Table

from training.stream.stream import PromptStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What was measured, after the first batches.

    Attributes:
        threads: That decoded, in each process that did.
        readers: Processes that read and decoded; 0: this one.
        cores: That this process may use.
        first_batch_s: From asking for the first batch to having it: catalog, first reads, decoding.
        batches: Measured.
        samples: In them.
        seconds: That they took.
        cpu_seconds: Of this process and its readers meanwhile.
        trainer_seconds: CPU of the thread that asked for the batches, of these.
        read_bytes: Encoded bytes of so many samples, by the data's mean.
        batch_bytes: Targets, references, masks, controls and features handed out.
        damaged: Samples replaced since the stream began.
        seen: Samples handed out since the stream began.
        peak_bytes: Memory that this process held at most.
    """

    threads: int
    readers: int
    cores: int
    first_batch_s: float
    batches: int
    samples: int
    seconds: float
    cpu_seconds: float
    trainer_seconds: float
    read_bytes: int
    batch_bytes: int
    damaged: int
    seen: int
    peak_bytes: int

    @property
    def samples_per_s(self) -> float:
        """Samples handed out in a second."""
        return self.samples / self.seconds

    @property
    def cpu_us_per_sample(self) -> float:
        """Microseconds of CPU that a sample takes, all threads together."""
        return self.cpu_seconds / self.samples * 1e6

    @property
    def cores_busy(self) -> float:
        """CPU seconds in a second."""
        return self.cpu_seconds / self.seconds

    @property
    def workers(self) -> int:
        """Threads that decoded, in all processes."""
        return self.threads * max(self.readers, 1)

    @property
    def hint(self) -> str:
        """What to do if that is too slow."""
        if self.cores_busy < 0.7 * min(self.workers, self.cores):
            return (
                "the threads wait: for the storage, for cores that others use, or for each other in Python, of which "
                f"--readers {min(2 * max(self.readers, 1), self.cores)} has more"
            )
        if self.workers < self.cores:
            more = min(2 * self.workers, self.cores)
            return f"the threads are busy: --threads {more} or --readers {more} should be faster"
        return "all cores are busy: a smaller --base, fewer references, or more cores a rank make it faster"


def bench(stream: PromptStream, seconds: float, report: Callable[[float, int], None], warm_up: int = 4) -> Bench:
    """Read for some seconds as a trainer that never computes.

    Args:
        stream: Not begun.
        seconds: At least one batch is read.
        report: Told how long it has been, and how many samples came.
        warm_up: Batches before the clock starts, the first one among them.

    Raises:
        DatasetError: If the data can't be streamed.
    """
    begun = time.perf_counter()
    next(stream)
    first_batch_s = time.perf_counter() - begun
    for _ in itertools.islice(stream, warm_up - 1):
        pass
    mean = _mean_size(stream)
    samples = batches = batch_bytes = 0
    begun, cpu, trainer = time.perf_counter(), _cpu_seconds(stream), time.thread_time()
    while not batches or time.perf_counter() - begun < seconds:
        batch = next(stream)
        batches, samples = batches + 1, samples + len(batch)
        batch_bytes += batch.nbytes
        report(time.perf_counter() - begun, samples)
    return Bench(
        threads=stream.options.threads,
        readers=stream.options.readers,
        cores=len(os.sched_getaffinity(0)),
        first_batch_s=first_batch_s,
        batches=batches,
        samples=samples,
        seconds=time.perf_counter() - begun,
        cpu_seconds=_cpu_seconds(stream) - cpu,
        trainer_seconds=time.thread_time() - trainer,
        read_bytes=int(mean * samples),
        batch_bytes=batch_bytes,
        damaged=stream.damaged,
        seen=stream.seen,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _cpu_seconds(stream: PromptStream) -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime + stream.maker.cpu_s()


def _mean_size(stream: PromptStream) -> float:
    """Encoded bytes of a sample, over all data sets as they are."""
    parts = [part for source in stream.timeline.sources for part in source.catalog.parts]
    total = sum(int(part.samples["size"].sum(dtype="uint64")) for part in parts)
    return total / max(sum(len(part.samples) for part in parts), 1)


def _in_readers(bench: Bench) -> str:
    return f" in each of {bench.readers} readers" if bench.readers else ""


def table(bench: Bench) -> Table:
    """The figures for people to read."""
    table = Table(show_header=False, caption=bench.hint, caption_justify="left")
    rows = {
        "samples a second": f"{bench.samples_per_s:,.0f}",
        "CPU a sample": f"{bench.cpu_us_per_sample:,.0f} µs",
        "of it the trainer's thread": f"{bench.trainer_seconds / bench.batches * 1e3:,.1f} ms a batch",
        "cores busy": f"{bench.cores_busy:.2f} of {bench.cores}; {bench.threads} threads{_in_readers(bench)}",
        "read": f"{bench.read_bytes / bench.seconds / 1e6:,.1f} MB/s encoded",
        "handed out": f"{bench.batch_bytes / bench.seconds / 1e6:,.1f} MB/s decoded",
        "first batch after": f"{bench.first_batch_s:.2f} s",
        "damaged": f"{bench.damaged / bench.seen:.2%} ({bench.damaged:,} for {bench.seen:,} places)",
        "memory at most": f"{bench.peak_bytes / 2**20:,.0f} MiB",
        "measured": f"{bench.samples:,} samples in {bench.batches:,} batches, {bench.seconds:.1f} s",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
