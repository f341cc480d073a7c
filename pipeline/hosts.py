"""Which hosts fail most, in bounded space: summaries of counts that may be added up and cut again."""

from collections import Counter
from collections.abc import Sequence
from urllib.parse import urlsplit

from manifests.record import Row
from manifests.shard import HostFailures

_HOSTS_OF_A_UNIT = 16
"""Ours: a host with more than a seventeenth of all failures is sure to be named, and a unit's record stays small."""


def heaviest(counts: Counter[str], most: int) -> Counter[str]:
    """At most ``most`` of the names, each counted too low by at most (sum of counts) / (``most`` + 1).

    Summaries may be added and cut again with the same bound over all that went in.

    Source: Misra and Gries 1982, "Finding repeated elements"; merging: Agarwal et al. 2012, "Mergeable Summaries".
    """
    if len(counts) <= most:
        return Counter(counts)
    cut = sorted(counts.values(), reverse=True)[most]
    return Counter({name: count - cut for name, count in counts.items() if count > cut})


def failed_hosts(rows: Sequence[Row]) -> tuple[HostFailures, ...]:
    """The hosts that most of the failed rows with a URL name, the worst first."""
    failed = [row.record.url for row in rows if row.verdict and row.verdict.kind == "failed" and row.record.url]
    counts = heaviest(Counter(host for url in failed if (host := _host(url))), _HOSTS_OF_A_UNIT)
    worst = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(HostFailures(host=host, rows=count) for host, count in worst)


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
