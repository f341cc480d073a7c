"""Whose turn it is: hosts take turns, each with bounds on its requests at once and per second."""

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Host(Generic[T]):
    waiting: deque[T] = field(default_factory=deque)
    running: int = 0
    ready_at: float = 0.0
    is_queued: bool = False

    @property
    def is_idle(self) -> bool:
        """Whether no one asks it or wants to."""
        return not (self.running or self.waiting or self.is_queued)


class Turns(Generic[T]):
    """A fair queue of requests. It knows no clock and no event loop.

    Hosts that may be asked stand in a ring and go one request each: one with a thousand requests, or a slow one, delays
    another's next by no more than a turn. A step costs the same however many hosts there are.

    Args:
        total: Requests at once.
        per_host: Requests at once to one host.
        interval_s: Least seconds from one request to a host to the next.
    """

    def __init__(self, total: int, per_host: int, interval_s: float = 0.0) -> None:
        self._total = total
        self._per_host = per_host
        self._interval_s = interval_s
        self._running = 0
        self._paces: dict[str, float] = {}
        self._hosts: dict[str, _Host[T]] = {}
        self._ring: deque[str] = deque()
        self._resting: list[tuple[float, str]] = []
        self._leaving: list[tuple[float, str]] = []

    def ask(self, host: str, request: T, now: float, is_urgent: bool = False) -> None:
        """Queue a request; an urgent one goes before the host's others."""
        queue = self._hosts.get(host) or self._hosts.setdefault(host, _Host())
        if is_urgent:
            queue.waiting.appendleft(request)
        else:
            queue.waiting.append(request)
        self._queue(host, now)

    def take(self, now: float) -> T | None:
        """The next request that may go now, which takes a place; ``None`` if there is none."""
        self._wake(now)
        while self._ring and self._running < self._total:
            name = self._ring.popleft()
            host = self._hosts[name]
            host.is_queued = False
            if host.ready_at <= now and host.waiting and host.running < self._per_host:
                return self._start(name, host, now)
            self._queue(name, now)
            self._leave(name, host)
        return None

    def give_back(self, host: str, now: float) -> None:
        """A request to ``host`` is over: its place is free."""
        self._running -= 1
        left = self._hosts[host]
        left.running -= 1
        self._queue(host, now)
        self._leave(host, left)
        self._forget(now)

    def drop(self, host: str) -> list[T]:
        """Take away and return what waits for ``host``."""
        if host not in self._hosts:
            return []
        dropped = list(self._hosts[host].waiting)
        self._hosts[host].waiting.clear()
        return dropped

    def rest(self, host: str, until: float) -> None:
        """Begin no request to ``host`` before ``until``. It has a request running."""
        self._hosts[host].ready_at = max(self._hosts[host].ready_at, until)

    def pace(self, host: str, interval_s: float) -> None:
        """From now on leave so many seconds between two requests to ``host``, if that is more than to others."""
        if interval_s > self._interval_s:
            self._paces[host] = interval_s
        else:
            self._paces.pop(host, None)

    def ready_at(self, host: str) -> float:
        """When the next request to ``host`` may begin, as far as its pace and its wishes go."""
        return self._hosts[host].ready_at if host in self._hosts else 0.0

    def next_at(self) -> float | None:
        """When a resting host is ready again; ``None`` if none rests."""
        return self._resting[0][0] if self._resting else None

    def _start(self, name: str, host: _Host[T], now: float) -> T:
        self._running += 1
        host.running += 1
        host.ready_at = max(host.ready_at, now + self._paces.get(name, self._interval_s))
        request = host.waiting.popleft()
        self._queue(name, now)
        return request

    def _wake(self, now: float) -> None:
        while self._resting and self._resting[0][0] <= now:
            self._ring.append(heapq.heappop(self._resting)[1])

    def _leave(self, name: str, host: _Host[T]) -> None:
        if host.is_idle:
            heapq.heappush(self._leaving, (host.ready_at, name))

    def _forget(self, now: float) -> None:
        """Let idle hosts go once they may be asked again."""
        while self._leaving and self._leaving[0][0] <= now:
            name = heapq.heappop(self._leaving)[1]
            host = self._hosts.get(name)
            if host and host.is_idle and host.ready_at <= now:
                del self._hosts[name]

    def _queue(self, name: str, now: float) -> None:
        host = self._hosts[name]
        if host.is_queued or not host.waiting or host.running >= self._per_host:
            return
        host.is_queued = True
        if host.ready_at > now:
            heapq.heappush(self._resting, (host.ready_at, name))
        else:
            self._ring.append(name)
