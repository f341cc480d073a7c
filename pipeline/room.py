"""Whether a machine of the cluster has room for a worker: Ray waits without a word, also for one that never comes."""

import time
from collections.abc import Mapping
from typing import Any

import ray

from pipeline.actor import FatalError
from pipeline.plan import Group

PATIENCE_S = 2 * 3600.0
"""So long a worker waits that no machine there is could hold: an autoscaler may take many minutes to bring one."""

_LOOK_EVERY_S = 10.0


def lacking(group: Group) -> str | None:
    """What a worker reserves and machines have, in words, if none there is could hold it, were it empty."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(has.get(name, 0) >= amount for name, amount in group.reserves.items()) for has in machines):
        return None
    most = {name: max((has.get(name, 0) for has in machines), default=0) for name in group.reserves}
    return (
        f"a worker of {group.name} reserves {_said(group.reserves)}, which none of the cluster's machines has "
        f"({len(machines)} now, with at most {_said(most)})"
    )


def taken(group: Group) -> str | None:
    """What a worker reserves and is free, in words, if the whole cluster has not so much free now."""
    free = ray.available_resources()
    if all(free.get(name, 0) >= amount for name, amount in group.reserves.items()):
        return None
    free = {name: free.get(name, 0) for name in group.reserves}
    return f"a worker of {group.name} reserves {_said(group.reserves)}, and {_said(free)} are free in the cluster now"


def answer(of: Any, group: Group) -> Any:
    """What a new worker's first call gives, however long that takes once there is a machine for it.

    Raises:
        FatalError: If for too long there was none.
    """
    since = time.monotonic()
    while not ray.wait([of], timeout=_LOOK_EVERY_S)[0]:
        why = lacking(group)
        if why is None:
            since = time.monotonic()
        elif time.monotonic() - since >= PATIENCE_S:
            raise FatalError(
                f"{why}; none came within {PATIENCE_S / 3600:g} h. Give the cluster such a machine again, or lower "
                "num_cpus, num_gpus or resources of the nodes. What is committed stays: the same command goes on"
            )
    return ray.get(of)


def _said(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in amounts.items())
