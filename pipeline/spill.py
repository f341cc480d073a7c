"""How much of its object store Ray has had to write to disk."""

import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address


def spilled_bytes() -> int:
    """Bytes that all machines of the Ray this process is connected to have spilled since they were started.

    Ray tells it nowhere but in its metrics and here, as of 2.60; Ray Data asks in the same way for its statistics.
    """
    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    return int(get_memory_info_reply(state).store_stats.spilled_bytes_total)
