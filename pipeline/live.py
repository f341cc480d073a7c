"""What a driver's process is at while its run goes on: no unit record can tell."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Live:
    """As of a moment ago: an executor replaces the values, whoever tells of the run reads them, from any thread.

    Attributes:
        in_flight: Units that were begun and are not committed, by where they are: ``source`` while they are read, a
            worker's nodes, those nodes after ``before`` while they wait for such a worker, ``isolation``.
        spilled: Bytes that Ray's machines wrote from their object stores to disk since this run began.
    """

    in_flight: Mapping[str, int] = field(default_factory=dict)
    spilled: int = 0
