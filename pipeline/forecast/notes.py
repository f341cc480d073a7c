"""What to know before one relies on a forecast."""

import json
from collections.abc import Iterator, Sequence

from manifests.record import StepUse
from pipeline.forecast.arithmetic import Forecast, NodeType
from pipeline.forecast.basis import Basis


def notes(basis: Basis, found: Forecast) -> Iterator[str]:
    """Sentences, each with its remedy."""
    yield from _settings(basis)
    yield from _hardware(basis)
    yield from _limits(found, basis.cluster.kinds)
    if any(step.is_download for step in basis.plan.steps) and not found.downloaded:
        yield "the run did not count what it downloaded (it is an older one): the network's bytes are missing"


def _settings(basis: Basis) -> Iterator[str]:
    ran = {step.node: step for step in basis.ran}
    for step in (step.use for step in basis.plan.steps if step.node.id in ran):
        if changes := list(_changes(ran[step.node], step)):
            yield (
                f"{step.node}: measured with other settings than the manifest's: {'; '.join(changes)}. What it costs "
                "and lets through may be others; measure it as it is"
            )


def _changes(was: StepUse, now: StepUse) -> Iterator[str]:
    """What a node was measured with that it no longer has."""
    if was.stage != now.stage:
        yield f"stage {was.stage}, not {now.stage}"
        return
    before, after = json.loads(was.params), json.loads(now.params)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"{name} {json.dumps(before.get(name))}, not {json.dumps(after.get(name))}"
    if was.version != now.version:
        yield f"version {was.version} of {was.stage}, not {now.version}"


def _hardware(basis: Basis) -> Iterator[str]:
    for step in basis.plan.steps:
        node, factor = step.node.id, basis.speedups.get(step.node.id)
        has, had = bool(step.node.num_gpus), node in basis.gpu_nodes
        if factor:
            yield f"{node}: taken to be {factor:g} times as fast as measured, as stated"
        elif has and not had:
            yield (
                f"{node}: measured on a CPU, but the manifest gives it {step.node.num_gpus:g} GPUs: its hours are "
                f"those of CPUs. Measure it on a GPU, or state how much faster one is: --speedup {node}=20"
            )
        elif had and not has:
            yield f"{node}: measured on a GPU, but the manifest gives it none: its hours are those of a GPU"


def _limits(found: Forecast, kinds: Sequence[NodeType]) -> Iterator[str]:
    for pool in found.pools:
        if pool.workers is not None and pool.workers > pool.most:
            yield (
                f"{pool.name}: the deadline takes {pool.workers:,} workers, the manifest allows {pool.most:,}; set "
                f"workers: [1, {pool.workers}]"
            )
    most = {kind.name: kind.most for kind in kinds}
    for machine in found.machines:
        limit = most[machine.node_type]
        if limit is not None and machine.machines is not None and machine.machines > max(limit, 1):
            yield (
                f"{machine.node_type}: the deadline takes {machine.machines:,} machines, the cluster file allows "
                f"{limit:,}; raise max_workers"
            )
