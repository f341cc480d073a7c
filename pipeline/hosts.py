"""Which hosts records failed at, and why, within bounds however many hosts there are."""

from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from typing import TypeAlias

from manifests.record import Row
from manifests.unit_record import HostErrors, StepCount
from pipeline.plan import Step
from stages.web.reasons import FetchError
from stages.web.url import authority, check_url

Errors: TypeAlias = Counter[tuple[str, str]]
"""Records that failed, by host and reason."""

UNIT_HOSTS = 10
"""Hosts that a unit's record tells of."""

_MAX_NAME = 260
"""Characters of a name of DNS with a port; what is longer is no host."""


def host_errors(step: Step, rows: Iterable[Row]) -> Errors:
    """Records that a step has just failed, by the host that their URL names, if the step downloads.

    Where a redirect led counts for the host that redirected.
    """
    errors: Errors = Counter()
    for row in rows if step.is_download else ():
        if row.verdict and row.verdict.kind == "failed" and (host := host_of(row.record.url)):
            errors[host, row.verdict.reason] += 1
    return errors


def host_of(url: str | None) -> str | None:
    """The host that a URL names, with its port, if that is one."""
    try:
        host = authority(check_url(url or ""))
    except FetchError:
        return None
    return host if len(host) <= _MAX_NAME else None


def worst(errors: Errors, most: int = UNIT_HOSTS) -> tuple[HostErrors, ...]:
    """The hosts with the most failed records, so many at most, with all their reasons, the worst first."""
    sums: Counter[str] = Counter()
    for (host, _), count in errors.items():
        sums[host] += count
    named = sorted(errors.items(), key=lambda item: (-sums[item[0][0]], item[0]))
    by_host = groupby(named, key=lambda item: item[0][0])
    return tuple(
        HostErrors(host=host, reason=reason, count=count)
        for _, (_, group) in zip(range(most), by_host, strict=False)
        for (host, reason), count in group
    )


def counted_by_host(step: StepCount) -> Errors:
    """The hosts of a step as counts again."""
    return Counter({(error.host, error.reason): error.count for error in step.hosts})
