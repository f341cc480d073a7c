"""What a piece of work costs, and on what machine."""

import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Seconds of wall clock, seconds of CPU of the whole process, and share of the time that the GPU was busy."""

    wall_s: float
    cpu_s: float
    gpu_busy: float | None


def measure(work: Callable[[], object], device: str) -> Cost:
    """Do the work once."""
    with _gpu_samples(device) as samples:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        cost = Cost(wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu, gpu_busy=None)
    busy = mean(samples) / 100 if samples else None
    return Cost(wall_s=cost.wall_s, cpu_s=cost.cpu_s, gpu_busy=busy)


@contextmanager
def _gpu_samples(device: str) -> Iterator[list[float]]:
    """While it is open nvidia-smi samples how busy the GPU is, in percent, ten times a second; there when it closes."""
    samples: list[float] = []
    if device == "cpu":
        yield samples
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100", "-i", "0"]
    with subprocess.Popen(query, stdout=subprocess.PIPE, text=True) as sampler:  # noqa: S603 (fixed words)
        try:
            yield samples
        finally:
            sampler.terminate()
            assert sampler.stdout
            samples += [float(line) for line in sampler.stdout if line.strip().isdigit()]


def machine(device: str) -> dict[str, object]:
    """The hardware, what else it was doing, and the day."""
    cpu = [line for line in _cpuinfo() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average": os.getloadavg(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "torch": torch.__version__,
    }


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []
