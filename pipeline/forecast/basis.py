"""What a forecast is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manifests.dag import ManifestFile
from manifests.record import StepUse
from manifests.unit_record import UnitRecord
from pipeline.forecast.arithmetic import Pool, Question
from pipeline.forecast.node_types import Cluster
from pipeline.forecast.prices import Prices
from pipeline.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a forecast is made of.

    Attributes:
        records: Units of the run (or probe) that was measured, called ``measured_in``.
        gpu_nodes: Its nodes that had a GPU.
        ran: Its steps; empty of a probe, which runs the very manifest.
        speedups: By node, how many times as fast as measured it will be.
    """

    plan: Plan
    records: Sequence[UnitRecord]
    measured_in: str
    gpu_nodes: frozenset[str]
    ran: Sequence[StepUse]
    cluster: Cluster
    prices: Prices | None
    question: Question
    speedups: Mapping[str, float]


def pools_of(plan: Plan) -> list[Pool]:
    """The plan's groups as pools of workers."""
    return [
        Pool(
            nodes=tuple(step.node.id for step in group.steps),
            needs={"CPU": group.num_cpus, "GPU": group.num_gpus, **group.resources},
            most=group.worker_range[1],
        )
        for group in plan.groups
    ]


def gpu_nodes(file: ManifestFile) -> frozenset[str]:
    """Nodes that a manifest gives a GPU."""
    return frozenset(node.id for node in file.manifest.nodes if node.num_gpus)
