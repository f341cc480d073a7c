"""Try rejected rows again: in units of their own, numbered after all others, so that committed shards stay as they are.

A unit's record says which rows of which units it accounts for from then on; everything that sums over units counts
each row where it was tried last.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from manifests.dag import parse_manifest
from pipeline.ledger import Layout, ResumeError, RunInfo
from pipeline.live import Live
from pipeline.progress import Progress
from pipeline.retrying.retry_plan import RetryError, RetryPlan, choose, latest_plan, new_plan, read_rejected
from pipeline.run import Executor, Outcome, Prepared, at_work, do_units, prepare


def count(layout: Layout, classes: Sequence[str]) -> Counter[str]:
    """How many rows would be tried again, by class.

    Raises:
        ResumeError: If the folder holds no run.
        RetryError: If nobody knows a class, or the folder was packed.
    """
    info = _read_run(layout)
    rows = choose(list(read_rejected(layout)), classes, info.reasons)
    return Counter(f"{row.node}.{row.reason}" for row in rows)


def retry(
    layout: Layout, classes: Sequence[str], executor: Executor, progress: Progress, live: Live | None = None
) -> tuple[Outcome, RetryPlan]:
    """Try the rows again that stand rejected for one of these classes; or finish the attempt that was cut off.

    Args:
        layout: The folder of a run, finished or not.
        classes: Reasons, as ``timeout`` or ``fetch.timeout``.
        executor: As for :func:`pipeline.run.execute`.
        progress: Likewise.
        live: Likewise.

    Raises:
        ResumeError: If the folder holds no run, or another attempt was cut off.
        RetryError: If nobody knows a class, or the folder was packed.
        ManifestError, SourceError, FatalError, OSError: As of a run.
    """
    prepared = _prepare(_read_run(layout), layout)
    with at_work(prepared, layout, live=live) as job:
        plan = _plan(layout, classes, prepared)
        left = plan.left(layout)
        planned = {unit.number for unit in plan.units}
        done = [record for record in layout.unit_records() if record.unit in planned]
        info = dataclasses.replace(prepared.info, units=len(plan.units), rows=plan.rows)
        with progress.watching(info, done):
            do_units(executor, job, left, progress)
    return Outcome(units=len(plan.units), left=len(plan.left(layout))), plan


def _read_run(layout: Layout) -> RunInfo:
    info = layout.read_run()
    if info.packed_from is not None:
        raise RetryError(
            f"{layout.root} was packed from another run; retry that one, then pack it into this folder again: what "
            "came since is added"
        )
    return info


def _prepare(info: RunInfo, layout: Layout) -> Prepared:
    """The run as it was started: its manifest and its limit stand in its own folder."""
    limit = next((setting.value for setting in info.fingerprint if setting.name == "limit"), "none")
    return prepare(parse_manifest(info.manifest, str(layout.run)), None if limit == "none" else int(limit))


def _plan(layout: Layout, classes: Sequence[str], prepared: Prepared) -> RetryPlan:
    """The attempt that was cut off, or else a new one, written down if there is anything to do."""
    before = latest_plan(layout)
    if before and before.left(layout):
        if set(before.classes) != set(classes):
            raise ResumeError(
                f"{layout.root}: attempt {before.attempt} ({', '.join(before.classes)}) was cut off; finish it first: "
                f"python -m pipeline retry {layout.root} --class {','.join(before.classes)}"
            )
        return before
    unit_rows = prepared.file.manifest.source.unit_rows
    plan = new_plan(layout, classes, prepared.info.reasons, prepared.units, unit_rows)
    if plan.units:
        plan.write(layout)
    return plan
