"""Places at hosts, without a network."""

import asyncio
from collections.abc import Sequence

import pytest

from stages.web.hosts import HostLimits, Hosts
from stages.web.reasons import FetchError

LIMITS = HostLimits(in_flight=4, per_host=4, interval_s=0.0, failures=3, max_s=60.0)


async def reasons(hosts: Hosts, names: Sequence[str]) -> list[str]:
    """Why each of these hosts, none of which answers, gives nothing; asked one after another."""
    found = []
    for name in names:
        with pytest.raises(FetchError) as error:
            async with hosts.place(name):
                raise FetchError("connect", "refused")
        found.append(error.value.reason)
    return found


def test_each_batch_gives_a_host_that_is_down_one_more_try() -> None:
    async def batches() -> list[list[str]]:
        hosts, found = Hosts(LIMITS), []
        for _ in range(3):
            hosts.begin_batch()
            found.append(await reasons(hosts, ["a"] * 4))
        return found

    first, *others = asyncio.run(batches())
    assert first == ["connect"] * 3 + ["host_down"]
    assert others == [["connect"] + ["host_down"] * 3] * 2


def test_of_many_dead_hosts_the_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.web.hosts._MOST_KEPT", 2)

    async def batch() -> list[str]:
        hosts = Hosts(LIMITS)
        hosts.begin_batch()
        await reasons(hosts, [*"aaa", *"bbb", *"ccc"])
        return await reasons(hosts, "cba")

    assert asyncio.run(batch()) == ["host_down", "host_down", "connect"]
