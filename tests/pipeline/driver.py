"""A toy run as a process that can be killed: ``python -m tests.pipeline.driver '{"out": …, "rows": …}'``."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pipeline.run
from pipeline.actor import FatalError
from pipeline.cluster import RayOptions, run_on_ray
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import Executor, execute, prepare
from stages import STAGES
from tests.pipeline.toys import TOYS, Hanging, Numbers, manifest


@dataclass(frozen=True, kw_only=True)
class Drive:
    """A run: its folder, rows, the manifest's settings, a pipe that row 12 hangs at, and the Ray to use, if any."""

    out: str
    rows: int
    settings: dict[str, Any] = field(default_factory=dict)
    pipe: str = ""
    address: str | None = None

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.pipeline.driver", json.dumps(asdict(self))]

    @property
    def executor(self) -> Executor:
        if self.address is None:
            return run_local
        options = RayOptions(address=self.address, workers=1)
        return lambda job, units: run_on_ray(job, units, options)


def main(drive: Drive) -> int:
    STAGES.update(TOYS)
    pipeline.run.open_source = lambda source: Hanging(drive.pipe, 12, drive.rows) if drive.pipe else Numbers(drive.rows)
    try:
        outcome = execute(prepare(manifest(**drive.settings)), Path(drive.out), drive.executor, LineProgress())
    except FatalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if outcome.left else 0


if __name__ == "__main__":
    sys.exit(main(Drive(**json.loads(sys.argv[1]))))
