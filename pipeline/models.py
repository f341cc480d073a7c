"""The models a manifest names: which they are, whether they are here, and bringing them here once for all runs."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

from manifests.dag import ManifestError, ManifestFile
from manifests.files import write_atomically
from manifests.record import from_plain, to_plain
from pipeline.hub import HUB_ERRORS, HubFile, HubModel, download, explain, inspect, look_up, remove
from pipeline.plan import bind_params
from stages.base import ModelRef
from stages.models.weights import cached_commit, is_on_hub, locate

RECORD = "inlay-models.json"
"""Says which models a folder holds, each pinned, with the hash of every file."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A model and where the manifest first names it: ``demo.yaml:12: node 'segment', params: ``."""

    ref: ModelRef
    node: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefetched:
    """What was downloaded for one model of a manifest.

    Attributes:
        model: Hub id.
        revision: As the manifest has it.
        patterns: Of the files that were asked for; empty: those any model needs.
        commit: What ``revision`` was then.
        files: With their SHA-256.
    """

    model: str
    revision: str | None
    patterns: tuple[str, ...] = ()
    commit: str
    files: tuple[HubFile, ...]

    @property
    def ref(self) -> ModelRef:
        """What a stage wants it as."""
        return ModelRef(name=self.model, revision=self.revision, files=self.patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Records:
    version: int = 1
    models: tuple[Prefetched, ...] = ()


def wanted(file: ManifestFile) -> Iterator[Wanted]:
    """Every model that a manifest's nodes want, each once.

    Raises:
        ManifestError: If a node names no stage, or parameters that the stage does not take.
    """
    seen = set()
    for number, node in enumerate(file.manifest.nodes):
        stage, params = bind_params(file, node, number)
        for ref in stage.wants(params):
            if ref not in seen:
                seen.add(ref)
                yield Wanted(ref=ref, node=node.id, place=file.at("nodes", number, "params"))


def describe(file: ManifestFile) -> Iterator[tuple[str, bool]]:
    """A line for every model of a manifest, node, model, revision, place, and whether it is here."""
    for want in wanted(file):
        place, is_here = _whereabouts(want.ref)
        revision = f" at {want.ref.revision}" if want.ref.revision else ""
        yield f"{want.node}: {want.ref.name}{revision}: {place}", is_here


def _whereabouts(ref: ModelRef) -> tuple[str, bool]:
    if not is_on_hub(ref):
        try:
            return locate(ref), True
        except ValueError as error:
            return str(error), False
    commit = cached_commit(ref)
    where = f"in {constants.HF_HUB_CACHE}"
    return (f"{where}, commit {commit}", True) if commit else (f"not {where}", False)


def prefetch(file: ManifestFile, folder: Path | None, tell: Tell) -> Path:
    """Bring every hub model of a manifest into a folder, once, and check what is there already.

    What was downloaded before is checked by its hashes without asking the hub, and downloaded anew where it differs.

    Args:
        file: The manifest.
        folder: Of the form of the hub's cache; ``None``: the hub's cache itself.
        tell: Takes a line at a time.

    Returns:
        The folder.

    Raises:
        ManifestError: With a line for each model that cannot be had.
        OSError: If the folder cannot be written.
    """
    cache = (folder or Path(constants.HF_HUB_CACHE)).expanduser().resolve()
    again = f"python -m pipeline models prefetch {file.name}" + (f" --into {folder}" if folder else "")
    mistakes = []
    for want in wanted(file):
        try:
            if is_on_hub(want.ref):
                _have(want.ref, cache, tell)
            else:
                tell(f"{want.ref.name}: {locate(want.ref)}")
        except HUB_ERRORS as error:
            mistakes.append(want.place + _absent(want.ref, error, cache, again))
    if mistakes:
        raise ManifestError("\n".join(mistakes))
    return cache


def _absent(ref: ModelRef, error: Exception, cache: Path, again: str) -> str:
    if not is_on_hub(ref):
        return str(error)
    return (
        f"no model {ref.name!r} at revision {ref.revision or 'main'!r}, looked for in {cache} and at "
        f"{constants.ENDPOINT}: {explain(error, ref.name or '')}; then `{again}` goes on"
    )


def _have(ref: ModelRef, cache: Path, tell: Tell) -> None:
    """Have one model in the cache, whole, and on record."""
    assert ref.name
    records = read_records(cache)
    before = next((record for record in records if record.ref == ref), None)
    if before:
        model = HubModel(name=ref.name, commit=before.commit, files=before.files)
    else:
        model = look_up(ref.name, ref.revision, ref.files)
        tell(f"{ref.name}: {len(model.files)} files, {_mb(model.size)}")
        _tell_pin(ref, model.commit, tell)
        download(model, ref.revision or model.commit, cache)
    files = _make_whole(model, cache, tell)
    if not before:
        record = Prefetched(model=ref.name, revision=ref.revision, patterns=ref.files, commit=model.commit, files=files)
        _write_records(cache, [*records, record])
    tell(f"{ref.name}: {len(files)} files, {_mb(model.size)}, as they should be at {model.commit}")


def _tell_pin(ref: ModelRef, commit: str, tell: Tell) -> None:
    if ref.revision != commit:
        tell(f"{ref.name}: {ref.revision or 'the main branch'} is a name that can move; pin revision: {commit}")


def _make_whole(model: HubModel, cache: Path, tell: Tell) -> tuple[HubFile, ...]:
    """Check all files, and download anew those that are not as they should be.

    Raises:
        ValueError: If one of them is still not.
    """
    good, bad = inspect(model, cache)
    if bad:
        for file, what in bad:
            tell(f"{model.name}: {file.path} {what}; downloading it anew")
            remove(model, file, cache)
        download(model, model.commit, cache)
        good, bad = inspect(model, cache)
    if bad:
        raise ValueError("; ".join(f"{file.path} {what}" for file, what in bad))
    return tuple(good)


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def read_records(cache: Path) -> tuple[Prefetched, ...]:
    """What a folder holds by its record; nothing if it has none.

    Raises:
        ValueError: If the record is damaged.
    """
    path = cache / RECORD
    if not path.exists():
        return ()
    try:
        records: _Records = from_plain(_Records, json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); remove it to check all models against the hub") from error
    return records.models


def _write_records(cache: Path, models: Sequence[Prefetched]) -> None:
    plain = to_plain(_Records(models=tuple(models)))
    write_atomically(cache / RECORD, (json.dumps(plain, indent=1) + "\n").encode())
