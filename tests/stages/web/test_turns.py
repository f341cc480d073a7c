"""Fairness, as invariants of the queue alone."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from stages.web.turns import Turns

hosts = st.lists(st.sampled_from("abcde"), max_size=60)


def drain(turns: Turns[tuple[str, int]], now: float) -> list[tuple[str, int]]:
    taken = []
    while (request := turns.take(now)) is not None:
        taken.append(request)
    return taken


@given(hosts, st.integers(1, 8), st.integers(1, 4))
@settings(deadline=None)
def test_limits_hold_and_every_request_gets_its_turn(asked: list[str], total: int, per_host: int) -> None:
    turns: Turns[tuple[str, int]] = Turns(total, per_host)
    for number, host in enumerate(asked):
        turns.ask(host, (host, number), 0.0)
    served: list[tuple[str, int]] = []
    running: list[tuple[str, int]] = []
    while True:
        running += drain(turns, 0.0)
        assert len(running) <= total
        assert all(sum(host == name for host, _ in running) <= per_host for name in "abcde")
        if not running:
            break
        served.append(running.pop(0))
        turns.give_back(served[-1][0], 0.0)
    assert sorted(served, key=lambda request: request[1]) == [(host, n) for n, host in enumerate(asked)]
    for name in "abcde":
        numbers = [number for host, number in served if host == name]
        assert numbers == sorted(numbers), "a host's requests go in order"


@given(hosts.filter(lambda asked: len(set(asked)) > 1))
def test_hosts_take_turns_one_request_each(asked: list[str]) -> None:
    turns: Turns[tuple[str, int]] = Turns(100, 100)
    for number, host in enumerate(asked):
        turns.ask(host, (host, number), 0.0)
    order = [host for host, _ in drain(turns, 0.0)]
    left = {host: asked.count(host) for host in set(asked)}
    while order:
        rounds = sum(count > 0 for count in left.values())
        lap, order = order[:rounds], order[rounds:]
        assert len(set(lap)) == rounds, "no host twice before all others that wait"
        for host in lap:
            left[host] -= 1


def test_a_stuck_host_holds_only_its_own_places() -> None:
    turns: Turns[str] = Turns(4, 2)
    for number in range(50):
        turns.ask("stuck", f"stuck {number}", 0.0)
    for number in range(10):
        turns.ask("quick", f"quick {number}", 0.0)
    served = 0
    while request := turns.take(0.0):
        if request.startswith("quick"):
            served += 1
            turns.give_back("quick", 0.0)
    assert served == 10


@given(st.integers(1, 20), st.floats(0.01, 1.0))
def test_a_rate_is_kept(count: int, interval_s: float) -> None:
    turns: Turns[int] = Turns(100, 100, interval_s)
    for number in range(count):
        turns.ask("a", number, 0.0)
    now, begun = 0.0, []
    while len(begun) < count:
        if turns.take(now) is not None:
            begun.append(now)
        else:
            now = turns.next_at() or now
    assert all(later - earlier >= interval_s * 0.999 for earlier, later in pairwise(begun))


def test_hosts_that_no_one_waits_for_are_forgotten_once_they_may_be_asked_again() -> None:
    """The open web has more hosts than memory, however slowly each is asked."""
    turns: Turns[str] = Turns(4, 2, interval_s=10.0)
    hosts = [f"host {number}" for number in range(100)]
    for now, host in enumerate(hosts):
        turns.ask(host, "", now)
        turns.ask(host, "", now)
        assert turns.take(now) is not None
        turns.drop(host)
        turns.give_back(host, now + 0.5)
        assert turns.take(now + 0.5) is None
    assert [turns.ready_at(host) for host in hosts[-10:]] == [number + 10.0 for number in range(90, 100)]
    assert {turns.ready_at(host) for host in hosts[:80]} == {0.0}


def test_an_urgent_request_goes_before_its_hosts_others() -> None:
    turns: Turns[str] = Turns(1, 1)
    turns.ask("a", "first", 0.0)
    turns.ask("a", "redirected", 0.0, is_urgent=True)
    assert turns.take(0.0) == "redirected"


def test_a_resting_host_waits_and_others_do_not() -> None:
    turns: Turns[str] = Turns(4, 4)
    turns.ask("a", "a1", 0.0)
    assert turns.take(0.0) == "a1"
    turns.rest("a", 5.0)
    turns.ask("a", "a2", 0.0)
    turns.ask("b", "b1", 0.0)
    assert drain(turns, 0.0) == ["b1"]  # type: ignore[arg-type]
    assert turns.next_at() == 5.0
    assert turns.take(5.0) == "a2"


@given(st.floats(0.01, 1.0), st.floats(0.0, 2.0))
def test_the_slower_of_a_hosts_own_pace_and_that_of_all_is_kept(interval_s: float, own_s: float) -> None:
    turns: Turns[str] = Turns(100, 100, interval_s)
    turns.pace("a", own_s)
    for host in "aabb":
        turns.ask(host, host, 0.0)
    assert drain(turns, 0.0) == ["a", "b"]  # type: ignore[arg-type]
    assert (turns.ready_at("a"), turns.ready_at("b")) == (max(interval_s, own_s), interval_s)
    turns.pace("a", 0.0)
    later = max(interval_s, own_s)
    assert sorted(drain(turns, later)) == ["a", "b"]  # type: ignore[type-var]
    assert turns.ready_at("a") == later + interval_s
