"""A manifest bound to stages: the second validation, by meaning, and the fingerprint of what will be made."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pydantic import ValidationError

from manifests.dag import ManifestError, ManifestFile, Node, explain
from manifests.record import SCHEMA_VERSION, ModelUse, StepUse, canonical_json
from pipeline.ledger import Setting
from pipeline.sources.base import Source
from stages import STAGES
from stages.base import Params, Stage, field_names, required_fields

_SINK_READS = frozenset({"image", "caption"})
_ALWAYS_THERE = frozenset({"key", "source", "row", "annotations", "dropped_subjects", "controls", "scores", "features"})


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A node bound to its stage class, with validated parameters and the models they choose."""

    node: Node
    stage: type[Stage[Any, Any]]
    params: Params
    models: tuple[ModelUse, ...]

    @property
    def use(self) -> StepUse:
        """The step as lineage tells it."""
        params = canonical_json(self.params.model_dump(mode="json"))
        return StepUse(
            node=self.node.id, stage=self.node.stage, version=self.stage.version, params=params, models=self.models
        )

    @property
    def reads(self) -> frozenset[str]:
        """Record fields, and ``subjects.x`` fields, that must be there."""
        return (required_fields(self.stage.In) - _ALWAYS_THERE) | {
            f"subjects.{name}" for name in self.stage.reads_of_subjects
        }

    @property
    def writes(self) -> frozenset[str]:
        """Record fields, and ``subjects.x`` fields, that are there afterwards."""
        return field_names(self.stage.Out) | {f"subjects.{name}" for name in self.stage.writes_to_subjects}

    @property
    def is_download(self) -> bool:
        """Whether it fetches what a URL names."""
        return "url" in field_names(self.stage.In) and "original" in field_names(self.stage.Out)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Adjacent steps that one worker runs without handing records over: one step on a GPU, or several on the CPU."""

    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """The nodes' ids, joined."""
        return "+".join(step.node.id for step in self.steps)

    @property
    def num_cpus(self) -> float:
        """CPU cores a worker reserves."""
        return max(step.node.num_cpus for step in self.steps)

    @property
    def num_gpus(self) -> float:
        """GPUs a worker reserves."""
        return max(step.node.num_gpus for step in self.steps)

    @property
    def resources(self) -> dict[str, float]:
        """Ray resources a worker needs."""
        return self.steps[0].node.resources

    @property
    def reserves(self) -> dict[str, float]:
        """All that a worker reserves, by Ray's names."""
        everything = {"CPU": self.num_cpus, "GPU": self.num_gpus, **self.resources}
        return {name: amount for name, amount in everything.items() if amount}

    @property
    def worker_range(self) -> tuple[int, int]:
        """Least and most workers."""
        ranges = [step.node.worker_range for step in self.steps]
        return max(least for least, _ in ranges), max(most for _, most in ranges)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Everything a run does, in order."""

    name: str
    seed: int
    steps: tuple[Step, ...]
    buckets: tuple[float, ...]
    max_consecutive_failures: int

    @property
    def groups(self) -> tuple[Group, ...]:
        """The steps by the worker that runs them."""
        runs = groupby(enumerate(self.steps), key=lambda item: _worker_kind(*item))
        return tuple(Group(tuple(step for _, step in run)) for _, run in runs)

    def reads_after(self, position: int) -> frozenset[str]:
        """Record fields that the steps from ``position`` on, or the sink, may still look at."""
        later = [field for step in self.steps[position:] for field in field_names(step.stage.In)]
        return frozenset(later) | _SINK_READS


def _worker_kind(position: int, step: Step) -> tuple[Any, ...]:
    """Equal for neighbours that share a worker: steps on a GPU keep their own, others join by their resources."""
    gpu = position if step.node.num_gpus else -1
    return gpu, sorted(step.node.resources.items())


def bind(file: ManifestFile, gives: frozenset[str], find_models: bool = True) -> Plan:
    """Validate a manifest's meaning and bind it to stages. Loads no model.

    Args:
        file: The manifest.
        gives: Record fields the source may fill.
        find_models: Look for the models too; a plan without them can't run.

    Raises:
        ManifestError: With one line per mistake: unknown stage or parameter, missing model, a field that nothing
            upstream writes, branches that write the same field.
    """
    order = file.manifest.sorted_nodes()
    places = {node.id: number for number, node in enumerate(file.manifest.nodes)}
    steps, mistakes = [], []
    for node in order:
        try:
            steps.append(_bind_node(file, node, places[node.id], find_models))
        except ManifestError as error:
            mistakes.append(str(error))
    if not mistakes:
        found = [*_wiring_mistakes(steps, gives), *_starved(file, steps, gives)]
        mistakes = [file.at("nodes", places[node]) + text for node, text in found]
    if mistakes:
        raise ManifestError("\n".join(mistakes))
    manifest = file.manifest
    return Plan(
        manifest.name, manifest.seed, tuple(steps), tuple(manifest.sink.buckets), manifest.max_consecutive_failures
    )


def _bind_node(file: ManifestFile, node: Node, number: int, find_models: bool) -> Step:
    stage, params = bind_params(file, node, number)
    try:
        return Step(node, stage, params, stage.models(params) if find_models else ())
    except ValueError as error:
        remedy = str(error).replace("MANIFEST", file.name)
        raise ManifestError(f"{file.at('nodes', number, 'params')}{remedy}") from None


def bind_params(file: ManifestFile, node: Node, number: int) -> tuple[type[Stage[Any, Any]], Params]:
    """The stage that a node names, and its parameters.

    Args:
        file: The manifest.
        node: One of its nodes.
        number: The node's place in the manifest.

    Raises:
        ManifestError: If there is no such stage, or with one line for each parameter it does not take.
    """
    stage = STAGES.get(node.stage)
    if stage is None:
        raise ManifestError(
            f"{file.at('nodes', number, 'stage')}no stage {node.stage!r}; there are {', '.join(sorted(STAGES))}"
        )
    try:
        return stage, stage.Params.model_validate(node.params)
    except ValidationError as error:
        known = list(stage.Params.model_fields)
        lines = [file.at("nodes", number, "params", *part["loc"]) + explain(part, known) for part in error.errors()]
        raise ManifestError("\n".join(lines)) from None


def _wiring_mistakes(steps: list[Step], gives: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Each mistake in what the steps read and write, with the node it shows at."""
    ancestors: dict[str, set[str]] = {}
    by_id = {step.node.id: step for step in steps}
    for step in steps:
        node = step.node
        ancestors[node.id] = set(node.needs).union(*(ancestors[need] for need in node.needs))
        upstream = gives.union(*(by_id[name].writes for name in ancestors[node.id]))
        for field in sorted(step.reads - upstream):
            yield node.id, _unwritten(f"({node.stage}) reads {field!r}", field, upstream)
        for other in by_id:
            if other == node.id:
                break
            if other not in ancestors[node.id] and (shared := by_id[other].writes & step.writes):
                yield (
                    node.id,
                    f"and node {other!r} both write {', '.join(sorted(shared))} and neither needs the other; "
                    f"add needs: [{other}] to say which comes last",
                )
    written = gives.union(*(step.writes for step in steps))
    for field in sorted(_SINK_READS - written):
        yield steps[-1].node.id, _unwritten(f"is the last, and a shard needs {field!r}", field, written)


def _starved(file: ManifestFile, steps: Sequence[Step], gives: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Each node that would lose every record for want of a field that no record has; of shards, some may have it."""
    kind = file.manifest.source.kind
    if kind == "shards":
        return
    made = set(gives)
    for step in steps:
        for field, instead in step.stage.lives_on(step.params).items():
            if field not in made:
                column = f"name its column in source.columns, {{{field}: NAME}}, or " if kind == "parquet" else ""
                yield (
                    step.node.id,
                    f"({step.node.stage}) would lose every record: it lives on {field!r}, which the source does not "
                    f"give ({', '.join(sorted(gives))} are there); {column}{instead}",
                )
        made |= step.writes - field_names(step.stage.In)


def _unwritten(who: str, field: str, upstream: Iterable[str]) -> str:
    writers = sorted(name for name, stage in STAGES.items() if field in _writes_of(stage))
    remedy = f"put a {' or '.join(writers)} node before it and name it in needs" if writers else "no stage writes it"
    return f"{who}, which nothing upstream writes ({', '.join(sorted(upstream))} are there); {remedy}"


def _writes_of(stage: type[Stage[Any, Any]]) -> frozenset[str]:
    return field_names(stage.Out) | {f"subjects.{name}" for name in stage.writes_to_subjects}


def fingerprint(file: ManifestFile, plan: Plan, source: Source, limit: int | None) -> tuple[Setting, ...]:
    """Everything that can change a shard's bytes, part by part: same fingerprint, same shards.

    Left out on purpose is what cannot: workers, resources, batch sizes, deadlines, the name of the manifest's file.
    """
    manifest = file.manifest
    settings = {
        "schema version": str(SCHEMA_VERSION),
        "name": manifest.name,
        "seed": str(manifest.seed),
        "limit": "none" if limit is None else str(limit),
        "source settings": manifest.source.model_dump_json(exclude={"keep", "read_deadline_s"}),
        "sink": manifest.sink.model_dump_json(exclude={"commit_deadline_s"}),
        "order of nodes": " ".join(step.node.id for step in plan.steps),
    }
    for part in source.parts:
        settings[f"source {part.name}"] = f"{part.rows} rows, {part.digest[:16]}"
    settings |= source.settings
    for step in plan.steps:
        settings[f"node {step.node.id}"] = f"{step.use.stage} version {step.use.version}, {step.use.params}"
        for model in step.models:
            settings[f"model {model.name} of node {step.node.id}"] = model.revision
    return tuple(Setting(name=name, value=value) for name, value in settings.items())


def digest(settings: tuple[Setting, ...]) -> str:
    """A fingerprint in one line: hex SHA-256."""
    text = json.dumps([[setting.name, setting.value] for setting in settings])
    return hashlib.sha256(text.encode()).hexdigest()


def describe(plan: Plan) -> Iterator[str]:
    """The plan in lines: each kind of worker with what it reserves, and its steps with what they read and write."""
    for group in plan.groups:
        least, most = group.worker_range
        extra = "".join(f", {amount:g} {name}" for name, amount in group.resources.items())
        pool = f"{least}" if least == most else f"{least} to {most}"
        yield f"worker: {group.num_cpus:g} CPUs, {group.num_gpus:g} GPUs{extra}; {pool} of them"
        for step in group.steps:
            batch = "whole units" if step.stage.takes_unit else f"batches of {step.node.batch_size}"
            yield f"  {step.node.id} ({step.node.stage} version {step.stage.version}), {batch}"
            yield f"    reads   {', '.join(sorted(step.reads)) or '-'}"
            yield f"    writes  {', '.join(sorted(step.writes)) or '-'}"
            for model in step.models:
                yield f"    model   {model.name} {model.revision}"
