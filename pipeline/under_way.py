"""Where the units of a run on Ray are at a moment: Ray Data calls back at every step of its scheduling."""

from collections.abc import Sequence
from itertools import pairwise

from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.operators.map_operator import MapOperator
from ray.data._internal.execution.streaming_executor import StreamingExecutor

from pipeline.live import Live


def counting_units(live: Live, groups: Sequence[str]) -> type[ExecutionCallback]:
    """A callback that keeps ``live.in_flight``. A class, since Ray Data makes the object, and copies all but classes.

    Args:
        live: Where it goes.
        groups: Names of the groups of workers, in order; each is an operator, after the one that reads.
    """

    class _Counting(ExecutionCallback):  # type: ignore[misc]  # Ray ships no types
        def on_execution_step(self, executor: StreamingExecutor) -> None:
            live.in_flight = _in_flight(executor, groups)

        def after_execution_succeeds(self, executor: StreamingExecutor) -> None:
            live.in_flight = {}

    return _Counting


def _in_flight(executor: StreamingExecutor, groups: Sequence[str]) -> dict[str, int]:
    """Units by where they are; one whose worker died is nowhere until its isolation.

    A unit that goes on before its task has ended is in both places for a moment.
    """
    operators = [operator.metrics for operator in executor._topology or () if isinstance(operator, MapOperator)]
    if len(operators) != len(groups) + 1:
        return {}
    places = {"source": operators[0].num_tasks_running}
    for name, (before, at) in zip(groups, pairwise(operators), strict=True):
        places[f"before {name}"] = max(0, before.num_task_outputs_generated - at.num_tasks_submitted)
        places[name] = at.num_tasks_running
    return places
