"""``python -m training.launch``: the trainer on Ray Train, with as many workers as there are, restarted when some die.

The folder of the run is the only state: each worker goes on from the newest checkpoint there. What was reported to Ray
is not relied on, as a report may be lost when its worker dies right after it.
"""

import os
import socket
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import ray
import torch
import torch.distributed as dist
import typer
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from training.commands.console import readable_errors
from training.commands.fit import Data, Readers, RecipeName, ResumeFlag, StartFrom, Steps, Threads, Track, find_recipe
from training.config import Recipe
from training.fit.fit import FitSettings, run_fit
from training.fit.runs import check_run, read_version
from training.fit.tracking import Tracker, read_trackers
from training.fit.world import backend_of, device_of_rank
from training.stream.options import StreamOptions
from training.stream.source import Dataset
from training.stream.world import TorchGroup

Out = Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run, on storage that all machines share")]
Workers = Annotated[str, typer.Option(metavar="N|MIN:MAX", help="Workers; with two numbers, as many as there is room")]
Gpus = Annotated[bool, typer.Option("--gpus", help="A GPU a worker; else a CPU")]
Failures = Annotated[int, typer.Option(min=0, help="How often to start again after a worker died")]
Address = Annotated[str | None, typer.Option(envvar="RAY_ADDRESS", help="Ray to join; else one of this machine alone")]


_RAY_TRAIN = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # so that file.py:function is found where the job's files are
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # which says every line twice
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What each worker is to train; plain values, as a recipe's code is found by each worker itself.

    Attributes:
        recipe: As ``--recipe`` has it.
        data: Absolute folders or URLs.
        out: Absolute folder of the run.
        steps: In all; ``None``: the recipe's.
        start_from: Absolute folder of a run to take weights from.
        has_gpus: Whether workers have one each.
        track: Where figures go beside the run's own log.
        options: How streams read.
    """

    recipe: str
    data: tuple[str, ...]
    out: Path
    steps: int | None = None
    start_from: Path | None = None
    has_gpus: bool = False
    track: tuple[Tracker, ...] = ()
    options: StreamOptions = field(default_factory=StreamOptions)

    @property
    def device_type(self) -> str:
        """Of what workers compute on."""
        return "cuda" if self.has_gpus else "cpu"

    def read_recipe(self) -> Recipe:
        """The recipe, in the process that asks."""
        return find_recipe(self.recipe, self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How many workers, and how often they may die."""

    workers: tuple[int, int]
    failures: int


def launch(
    recipe: RecipeName,
    data: Data,
    out: Out,
    workers: Workers = "1",
    gpus: Gpus = False,
    resume: ResumeFlag = False,
    start_from: StartFrom = None,
    steps: Steps = None,
    track: Track = None,
    threads: Threads = 2,
    readers: Readers = 0,
    max_failures: Failures = 3,
    address: Address = None,
) -> None:
    """Train on Ray; on a cluster: [bold]ray job submit --working-dir . -- python -m training.launch …[/bold]."""
    with readable_errors():
        for path in (*data, str(out), *([str(start_from)] if start_from else [])):
            check_shared(path)
        job = Launch(
            recipe=recipe,
            steps=steps,
            data=tuple(data),
            out=out,
            start_from=start_from,
            has_gpus=gpus,
            track=read_trackers(track or ()),
            options=StreamOptions(threads=threads, readers=readers),
        )
        scale = Scale(workers=read_workers(workers), failures=max_failures)
        if resume:
            read_version(out)
        check_run(out, job.read_recipe(), may_resume=resume)
        ray.init(address=address or "local", ignore_reinit_error=True)
        train(job, scale)


def check_shared(path: str) -> None:
    """See that a path means the same in every worker.

    Raises:
        ValueError: If it doesn't.
    """
    if "://" not in path and not Path(path).is_absolute():
        raise ValueError(f"{path}: workers have folders of their own to work in; give a URL or an absolute path")


def read_workers(text: str) -> tuple[int, int]:
    """The fewest and the most workers of ``N`` or ``MIN:MAX``.

    Raises:
        ValueError: If it is neither.
    """
    least, _, most = text.partition(":")
    try:
        workers = int(least), int(most or least)
    except ValueError:
        workers = 0, 0
    if not 1 <= workers[0] <= workers[1]:
        raise ValueError(f"--workers is a number such as 4, or two such as 1:4, the smaller one first; got {text!r}")
    return workers


def train(job: Launch, scale: Scale) -> None:
    """Train on the Ray that this process has joined.

    Raises:
        ValueError: If workers died too often, or of what a user can correct; the message has the last reason.
    """
    for name, value in _RAY_TRAIN.items():
        os.environ.setdefault(name, value)
    least, most = scale.workers
    trainer = TorchTrainer(
        partial(work, job),
        torch_config=TorchConfig(backend=backend_of(job.device_type)),
        scaling_config=ScalingConfig(num_workers=most if least == most else (least, most), use_gpu=job.has_gpus),
        run_config=RunConfig(
            storage_path=str(job.out / "ray"), failure_config=FailureConfig(max_failures=scale.failures)
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise ValueError(f"{job.out}: training stopped: {error}") from error


def work(job: Launch) -> None:
    """Train in a worker, within the process group that Ray Train made; workers that the batch has no share for rest."""
    recipe = job.read_recipe()
    size = fitting(recipe.batch_size, dist.get_world_size())
    if size < dist.get_world_size() and not _regroup(size, job.device_type):
        return
    run_fit(
        FitSettings(
            recipe=recipe,
            data=tuple(Dataset(url=url) for url in job.data),
            out=job.out,
            resume="if_any",
            start_from=job.start_from,
            options=job.options,
            track=job.track,
            show=True,
        )
    )


def fitting(batch_size: int, workers: int) -> int:
    """How many of the workers can share a batch evenly, at most."""
    return max(size for size in range(1, workers + 1) if batch_size % size == 0)


def _regroup(size: int, device_type: str) -> bool:
    """Let the first workers be a world of their own; whether this one is of them."""
    rank = dist.get_rank()
    if device_type == "cuda":
        torch.cuda.set_device(device_of_rank())
    place = TorchGroup().share(_free_place())
    dist.barrier()
    dist.destroy_process_group()
    if rank < size:
        dist.init_process_group(backend_of(device_type), init_method=f"tcp://{place}", rank=rank, world_size=size)
    return rank < size


def _free_place() -> str:
    """This machine's address with a free port."""
    host = ray.util.get_node_ip_address()
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


if __name__ == "__main__":
    typer.run(launch)
