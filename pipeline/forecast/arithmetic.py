"""How large a run will be: rows, hours, machines and bytes, by arithmetic on measured costs.

Behind ``python -m pipeline plan``. (:mod:`pipeline.plan` is something else: a manifest bound to its stages.)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

_ROUNDING = 1e-9
"""How far a quotient may lie below a whole number and still mean it: 1 / 0.1 GPUs are 10 workers."""


class ForecastError(ValueError):
    """A forecast that cannot be made; the message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """What one record costs in a stage.

    Attributes:
        node: Its node.
        passes: Share of the records that it lets through, in [0, 1].
        seconds: Of a worker, for each record that comes in.
        downloaded: Bytes fetched for each record that it lets through.
    """

    node: str
    passes: float
    seconds: float
    downloaded: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one source row costs.

    Attributes:
        source_passes: Share of the rows that the source does not reject.
        stages: In order; each gets what the one before lets through.
        kept_bytes: Of shard and index, for each record kept.
        rejected_bytes: Of the list of rejects, for each row rejected.
    """

    source_passes: float
    stages: tuple[StageCost, ...]
    kept_bytes: float
    rejected_bytes: float

    def changed(self, node: str, speed: float = 1.0, passes: float = 1.0) -> "Costs":
        """The same with one stage so many times as fast, and letting through so many times as much."""
        stages = [
            replace(stage, seconds=stage.seconds / speed, passes=min(1.0, stage.passes * passes))
            if stage.node == node
            else stage
            for stage in self.stages
        ]
        return replace(self, stages=tuple(stages))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The workers of some adjacent nodes: what each reserves, and how many the manifest allows at most."""

    nodes: tuple[str, ...]
    needs: Mapping[str, float]
    most: int

    @property
    def name(self) -> str:
        """The nodes' ids, joined."""
        return "+".join(self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeType:
    """A kind of machine: its Ray resources, and how many the cluster may have of it."""

    name: str
    resources: Mapping[str, float]
    most: int | None = None

    def share(self, resource: str, need: float) -> float:
        """Part of the machine's resource that a worker takes, as that many fit on it: infinite if none does.

        A fraction of a GPU lies on one GPU: 0.4 of it twice, not five times on two.
        """
        if need <= 0:
            return 0.0
        have = self.resources.get(resource, 0.0)
        split = resource == "GPU" and need < 1
        fit = math.floor(have) * _whole(1 / need) if split else _whole(have / need)
        return 1 / fit if fit else math.inf

    def load(self, pool: Pool) -> float:
        """Part of a machine that a worker of the pool takes, by its scarcest resource."""
        return max((self.share(name, need) for name, need in pool.needs.items()), default=0.0)


def _whole(quotient: float) -> int:
    return math.floor(quotient + _ROUNDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageForecast:
    """What a stage does in the whole run; hours are those of its worker, of the CPUs and of the GPUs it reserves."""

    node: str
    rows_in: float
    rows_out: float
    hours: float
    cpu_hours: float
    gpu_hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolForecast:
    """Worker-hours of a pool, where it runs, how many workers the deadline takes, and how many there may be."""

    name: str
    node_type: str
    hours: float
    workers: int | None
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineForecast:
    """Machine-hours of a node type, and how many the deadline takes."""

    node_type: str
    hours: float
    machines: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The whole run; bytes as the source's and the store's networks see them.

    Attributes:
        working_s: Seconds until the deadline in which workers work, if there is one.
    """

    rows: float
    kept: float
    stages: tuple[StageForecast, ...]
    pools: tuple[PoolForecast, ...]
    machines: tuple[MachineForecast, ...]
    downloaded: float
    written: float
    working_s: float | None = None

    def rate(self, amount: float) -> float | None:
        """Bytes a second that so many bytes take while workers work, for the deadline."""
        return amount / self.working_s if self.working_s else None

    @property
    def cpu_hours(self) -> float:
        """Hours of reserved CPUs."""
        return sum(stage.cpu_hours for stage in self.stages)

    @property
    def gpu_hours(self) -> float:
        """Hours of reserved GPUs."""
        return sum(stage.gpu_hours for stage in self.stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be forecast.

    Attributes:
        rows: Source rows.
        deadline_h: Hours that the run may take.
        busy: Share of the time, in (0, 1], that workers work: the rest goes into start-up, waiting and stragglers.
        head: Node type of the one machine that is there for all of the deadline and works for no pool, if any.
    """

    rows: float
    deadline_h: float | None = None
    busy: float = 1.0
    head: str | None = None


def forecast(costs: Costs, placed: Sequence[tuple[Pool, NodeType]], question: Question) -> Forecast:
    """What a run takes, with each pool on its node type (see :func:`place`)."""
    pools = [pool for pool, _ in placed]
    stages = funnel(costs, pools, question.rows)
    hours = {stage.node: stage.hours for stage in stages}
    of_pools = [_pool(pool, kind, sum(hours[node] for node in pool.nodes), question) for pool, kind in placed]
    kept = stages[-1].rows_out if stages else question.rows * costs.source_passes
    downloads = [stage.downloaded * done.rows_out for stage, done in zip(costs.stages, stages, strict=True)]
    return Forecast(
        rows=question.rows,
        kept=kept,
        stages=stages,
        pools=tuple(of_pools),
        machines=_machines(placed, of_pools, question),
        downloaded=sum(downloads),
        written=kept * costs.kept_bytes + (question.rows - kept) * costs.rejected_bytes,
        working_s=None if question.deadline_h is None else question.deadline_h * 3600 * question.busy,
    )


def funnel(costs: Costs, pools: Sequence[Pool], rows: float) -> tuple[StageForecast, ...]:
    """Rows and hours of each stage."""
    needs = {node: pool.needs for pool in pools for node in pool.nodes}
    stages, left = [], rows * costs.source_passes
    for cost in costs.stages:
        entered, left = left, left * cost.passes
        hours = entered * cost.seconds / 3600
        stages.append(
            StageForecast(
                node=cost.node,
                rows_in=entered,
                rows_out=left,
                hours=hours,
                cpu_hours=hours * needs[cost.node].get("CPU", 0.0),
                gpu_hours=hours * needs[cost.node].get("GPU", 0.0),
            )
        )
    return tuple(stages)


def place(pools: Sequence[Pool], kinds: Sequence[NodeType], prices: Mapping[str, float]) -> list[tuple[Pool, NodeType]]:
    """Each pool on the node type where its worker is cheapest; without prices, where it wastes least.

    Raises:
        ForecastError: If a worker fits nowhere.
    """
    return [(pool, _best(pool, kinds, prices)) for pool in pools]


def _best(pool: Pool, kinds: Sequence[NodeType], prices: Mapping[str, float]) -> NodeType:
    fitting = [kind for kind in kinds if any(kind.resources.values()) and kind.load(pool) < math.inf]
    if not fitting:
        needs = ", ".join(f"{amount:g} {name}" for name, amount in pool.needs.items())
        raise ForecastError(f"no node type has room for a worker of {pool.name}, which reserves {needs}")
    return min(fitting, key=lambda kind: (prices.get(kind.name, 0.0) * kind.load(pool), *_waste(pool, kind)))


def _waste(pool: Pool, kind: NodeType) -> tuple[float, int, float, str]:
    """How badly a machine suits a worker: GPUs it has no use for, then other resources, then how few fit."""
    idle = {name: amount for name, amount in kind.resources.items() if amount and not pool.needs.get(name)}
    return idle.get("GPU", 0.0), len(idle), kind.load(pool), kind.name


def _pool(pool: Pool, kind: NodeType, hours: float, question: Question) -> PoolForecast:
    workers = None
    if question.deadline_h is not None:
        workers = math.ceil(hours / (question.deadline_h * question.busy))
    return PoolForecast(name=pool.name, node_type=kind.name, hours=hours, workers=workers, most=pool.most)


def _machines(
    placed: Sequence[tuple[Pool, NodeType]], pools: Sequence[PoolForecast], question: Question
) -> tuple[MachineForecast, ...]:
    kinds = {kind.name: kind for _, kind in placed}
    found = []
    for kind in kinds.values():
        here = [(pool, done) for (pool, at), done in zip(placed, pools, strict=True) if at.name == kind.name]
        hours = _filled(kind, [(pool, done.hours / question.busy) for pool, done in here])
        whole = math.ceil(_filled(kind, [(pool, done.workers or 0) for pool, done in here]) - _ROUNDING)
        machines = None if question.deadline_h is None else whole
        found.append(MachineForecast(node_type=kind.name, hours=hours, machines=machines))
    if question.head not in {None, *kinds} and question.deadline_h is not None:
        found.append(MachineForecast(node_type=question.head or "", hours=question.deadline_h, machines=1))
    return tuple(found)


def _filled(kind: NodeType, loads: Sequence[tuple[Pool, float]]) -> float:
    """Machines (or machine-hours) that so many workers (or worker-hours) of pools fill, by the scarcest resource."""
    names = {name for pool, _ in loads for name in pool.needs}
    return max(
        (sum(kind.share(name, pool.needs.get(name, 0.0)) * amount for pool, amount in loads) for name in names),
        default=0.0,
    )
