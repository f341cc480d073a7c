"""A run from manifest to committed units: start or resume, execute, tell."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from manifests.dag import ManifestError, ManifestFile
from manifests.files import AnyPath, create
from manifests.record import SCHEMA_VERSION
from manifests.store import StorePath
from manifests.unit_record import Superseded, UnitRecord
from manifests.versions import versions
from pipeline.actor import ENGINE_REASONS
from pipeline.commit import CommitPlan
from pipeline.job import Job
from pipeline.lease import SILENCE_S, hold
from pipeline.ledger import Layout, Reason, ResumeError, RunInfo, Setting, refuse_changes
from pipeline.live import Live
from pipeline.plan import Plan, bind, digest, fingerprint
from pipeline.progress import Progress
from pipeline.retrying.attempts import superseded_parts
from pipeline.sources import open_source
from pipeline.sources.base import Source, SourceError, Unit, cut_units
from stages.models.weights import is_pinned

Executor = Callable[[Job, Sequence[Unit]], Iterator[UnitRecord]]
"""Does units of a job, yielding each as it is committed: ``run_local``, or ``run_on_ray`` with options."""

_PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pyarrow",
    "pycocotools",
    "ray",
    "simplejpeg",
    "spacy",
    "torch",
    "transformers",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A manifest bound to its source, with its units cut; nothing is written yet."""

    file: ManifestFile
    source: Source
    plan: Plan
    units: tuple[Unit, ...]
    info: RunInfo


def prepare(file: ManifestFile, limit: int | None = None) -> Prepared:
    """Validate everything that can be before any worker starts.

    Args:
        file: The manifest.
        limit: Use only the first so many source rows.

    Raises:
        ManifestError: If the manifest cannot run.
        SourceError: If the source cannot be read or has no rows.
    """
    source = open_source(file.manifest.source)
    plan = bind(file, source.gives)
    units = tuple(cut_units([part.rows for part in source.parts], file.manifest.source.unit_rows, limit))
    if not units:
        raise SourceError(f"{file.name}: the source has no rows; check source.{file.manifest.source.kind} paths")
    return Prepared(file=file, source=source, plan=plan, units=units, info=_run_info(file, source, plan, units, limit))


def _run_info(file: ManifestFile, source: Source, plan: Plan, units: tuple[Unit, ...], limit: int | None) -> RunInfo:
    return RunInfo(
        schema_version=SCHEMA_VERSION,
        name=plan.name,
        manifest=file.text,
        fingerprint=fingerprint(file, plan, source, limit),
        units=len(units),
        rows=sum(unit.rows for unit in units),
        buckets=plan.buckets,
        steps=tuple(step.use for step in plan.steps),
        reasons=tuple(_reasons(source, plan)),
        versions=tuple(Setting(name=name, value=value) for name, value in versions(_PACKAGES).items()),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        paper=file.manifest.paper,
    )


def _reasons(source: Source, plan: Plan) -> Iterator[Reason]:
    for reason, meaning in source.reasons.items():
        yield Reason(node="source", reason=reason, meaning=meaning)
    for step in plan.steps:
        for reason, meaning in {**ENGINE_REASONS, **step.stage.reasons}.items():
            yield Reason(node=step.node.id, reason=reason, meaning=meaning)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended: units in all, and those this run and the ones before it have not committed."""

    units: int
    left: int


def execute(
    prepared: Prepared,
    out: AnyPath,
    executor: Executor,
    progress: Progress,
    silence_s: float = SILENCE_S,
    live: Live | None = None,
) -> Outcome:
    """Start or resume a run in ``out`` and do what is left of it.

    Args:
        prepared: The run.
        out: A folder, or a place in an object store; new, empty, or this very run's.
        executor: Does the units.
        progress: Is told of them.
        silence_s: Another driver may take over when this one gave no sign of life for so long.
        live: What the executor says is under way; some of it is told to ``status``.

    Raises:
        ManifestError: If a model's revision may move during the run.
        ResumeError: If ``out`` holds another run, other files, or a run that is going on.
        FatalError: If the run must stop.
        OSError: If ``out`` cannot be written.
    """
    layout = Layout(out)
    with at_work(prepared, layout, silence_s, live) as job:
        records = list(layout.unit_records())
        before = {record.unit: record for record in records if record.attempt == 1}
        left = tuple(unit for unit in prepared.units if unit.number not in before)
        retried = [record for record in records if record.attempt > 1]
        with progress.watching(prepared.info, list(before.values()), retried):
            done = do_units(executor, job, left, progress)
        return Outcome(units=len(prepared.units), left=len(left) - done)


@contextmanager
def at_work(
    prepared: Prepared, layout: Layout, silence_s: float = SILENCE_S, live: Live | None = None
) -> Iterator[Job]:
    """Make a folder this run's, or find that it is; hold it; and give what executors need.

    Raises:
        ManifestError, ResumeError, OSError: As :func:`execute`.
    """
    _refuse_moving_models(prepared)
    start(layout, prepared.info)
    with hold(layout, silence_s, live) as term:
        sweep(layout)
        yield Job(
            source=prepared.source,
            plan=prepared.plan,
            commit=_commit_plan(layout.root, prepared, term),
            read_deadline_s=prepared.file.manifest.source.read_deadline_s,
            commit_deadline_s=prepared.file.manifest.sink.commit_deadline_s,
            superseded=_superseded(layout, prepared.info.units),
        )
        sweep(layout)


def _superseded(layout: Layout, units: int) -> Mapping[int, tuple[Superseded, ...]]:
    """Rows of units still to be done that units of retries, numbered after the run's own, account for."""
    done = {int(name): name for name in layout.committed()}
    retried = (layout.unit_record(name) for number, name in done.items() if number >= units)
    return {unit: parts for unit, parts in superseded_parts(retried).items() if unit not in done}


def do_units(executor: Executor, job: Job, units: Sequence[Unit], progress: Progress) -> int:
    """Have units done and tell of each; how many were committed."""
    done = 0
    for record in executor(job, units) if units else ():
        progress.committed(record)
        done += 1
    return done


def _refuse_moving_models(prepared: Prepared) -> None:
    for step in prepared.plan.steps:
        for ref in step.stage.wants(step.params):
            if not is_pinned(ref):
                raise ManifestError(
                    f"{prepared.file.name}: node {step.node.id!r}: revision {ref.revision!r} of {ref.name!r} is no "
                    "commit, and the hub's cache does not know which it is: set revision to a commit, or run "
                    f"`python -m pipeline models prefetch {prepared.file.name}`"
                )


def _commit_plan(out: AnyPath, prepared: Prepared, term: int) -> CommitPlan:
    info = prepared.info
    return CommitPlan(
        root=str(out.resolve() if isinstance(out, Path) else out),
        term=term,
        fingerprint=digest(info.fingerprint),
        buckets=info.buckets,
        steps=info.steps,
    )


def start(layout: Layout, info: RunInfo) -> None:
    """Make the folder a run's, or find that it holds this very run."""
    if not layout.run.exists():
        _refuse_strangers(layout)
        layout.root.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # another command began the same moment
            create(layout.run, info.to_json().encode())
    refuse_changes(layout.read_run(), info, layout.root)
    for folder in layout.folders:
        folder.mkdir(exist_ok=True)


def _refuse_strangers(layout: Layout) -> None:
    if layout.root.exists() and not layout.root.is_dir():
        raise ResumeError(f"{layout.root} is no folder; give a new or empty one with --out")
    found = layout.root.iterdir() if layout.root.exists() else ()
    if any(not path.name.startswith(f".{layout.run.name}.") for path in found):
        raise ResumeError(f"{layout.root} is not empty and holds no run; give a new or empty folder with --out")


def sweep(layout: Layout) -> None:
    """Remove what killed workers and killed runs left half-written."""
    if isinstance(layout.root, StorePath):
        layout.root.abort_uploads()
        return
    for folder in (layout.root, *layout.folders):
        for path in folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)
