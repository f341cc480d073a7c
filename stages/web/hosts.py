"""Places at hosts for those who wait, and hosts that no one waits for any more."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from stages.web.reasons import FetchError
from stages.web.turns import Turns

_UNANSWERED = frozenset({"connect", "timeout"})

_MOST_KEPT = 100_000
"""Hosts whose failures are remembered: the open web has millions that are dead."""


@dataclass(eq=False, slots=True)
class _Turn:
    host: str
    granted: "asyncio.Future[None]"


@dataclass(slots=True)
class Try:
    """A request on its way.

    Attributes:
        is_answered: A status line came.
        is_forgiven: That its connection ended for all on it does not count against the host.
    """

    is_answered: bool = False
    is_forgiven: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """Bounds on what one host may have and take.

    Attributes:
        in_flight: Requests at once, to all hosts.
        per_host: Requests at once to one.
        interval_s: Least seconds from one request to a host to the next.
        failures: Tries in a row without an answer after which a host is down.
        max_s: Seconds after a host's first request of a batch at which its last may begin. They run from when the first
            is wanted, if the host's pace makes it wait.
    """

    in_flight: int
    per_host: int
    interval_s: float
    failures: int
    max_s: float


class Hosts:
    """Gives out places at hosts in turn, so that a slow host holds up none but its own requests.

    Failures in a row are counted from batch to batch; each batch gives a host that is down one more try. They are kept
    of the hosts that failed last.
    """

    def __init__(self, limits: HostLimits) -> None:
        self._limits = limits
        self._turns: Turns[_Turn] = Turns(limits.in_flight, limits.per_host, limits.interval_s)
        self._batch = 0
        self._failures: dict[str, tuple[int, int]] = {}  # how many, and the batch of the last; it comes last
        self._began: dict[str, float] = {}
        self._alarm: asyncio.TimerHandle | None = None

    def begin_batch(self) -> None:
        """Forget how long hosts took, and let those that were down be tried once."""
        self._began = {}
        self._batch += 1

    @asynccontextmanager
    async def place(self, host: str, is_urgent: bool = False) -> AsyncIterator[Try]:
        """Wait for a place at ``host`` and hold it.

        Raises:
            FetchError: ``host_down`` or ``host_slow``.
        """
        await self._wait(host, is_urgent)
        attempt = Try()
        try:
            yield attempt
        except (FetchError, asyncio.CancelledError) as error:
            is_excused = attempt.is_forgiven and getattr(error, "is_shared", False)
            if not (attempt.is_answered or is_excused) and getattr(error, "reason", "timeout") in _UNANSWERED:
                self._count(host)  # asyncio cancels a try when its URL's own deadline is over
            raise
        finally:
            if attempt.is_answered:
                self._failures.pop(host, None)
            self._give_back(host)

    def rest(self, host: str, seconds: float) -> None:
        """Begin no more requests to ``host`` for so long. One is running."""
        self._turns.rest(host, _now() + seconds)

    def pace(self, host: str, interval_s: float) -> None:
        """Leave ``host`` at least so many seconds between requests; what cannot begin in its time then is refused."""
        self._turns.pace(host, interval_s)

    async def _wait(self, host: str, is_urgent: bool) -> None:
        if self._failed(host) >= self._limits.failures:
            raise self._down(host)
        if (ready_at := self._turns.ready_at(host)) > _now() and self._is_late(host, ready_at):
            raise self._slow(host)
        turn = _Turn(host, asyncio.get_running_loop().create_future())
        self._turns.ask(host, turn, _now(), is_urgent)
        self._grant()
        try:
            await turn.granted
        except asyncio.CancelledError:
            if turn.granted.done() and not turn.granted.cancelled() and turn.granted.exception() is None:
                self._give_back(host)  # it was granted in the same step of the loop in which we were cancelled
            raise

    def _grant(self) -> None:
        now = _now()
        while turn := self._turns.take(now):
            if turn.granted.done():
                self._turns.give_back(turn.host, now)  # who waited has given up
            elif self._is_late(turn.host, now):
                self._turns.give_back(turn.host, now)
                _refuse([turn, *self._turns.drop(turn.host)], self._slow(turn.host))
            else:
                turn.granted.set_result(None)
                if self._is_late(turn.host, self._turns.ready_at(turn.host)):
                    _refuse(self._turns.drop(turn.host), self._slow(turn.host))
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Grant again when the next resting host is ready."""
        next_at = self._turns.next_at()
        if self._alarm and self._alarm.when() != next_at:
            self._alarm.cancel()
            self._alarm = None
        if next_at is not None and self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_at(next_at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._grant()

    def _give_back(self, host: str) -> None:
        self._turns.give_back(host, _now())
        self._grant()

    def _failed(self, host: str) -> int:
        """How often in a row; one less than too often, if that was in other batches."""
        count, batch = self._failures.get(host, (0, self._batch))
        return count if batch == self._batch else min(count, self._limits.failures - 1)

    def _count(self, host: str) -> None:
        failed = self._failed(host) + 1
        self._failures.pop(host, None)
        self._failures[host] = failed, self._batch
        if len(self._failures) > _MOST_KEPT:
            del self._failures[next(iter(self._failures))]
        if failed >= self._limits.failures:
            _refuse(self._turns.drop(host), self._down(host))

    def _is_late(self, host: str, at: float) -> bool:
        """Whether a request to ``host`` that begins then is one too many for this batch."""
        return at - self._began.setdefault(host, _now()) > self._limits.max_s

    def _slow(self, host: str) -> FetchError:
        return FetchError("host_slow", f"{host} takes more than max_host_s, {self._limits.max_s:g} s, for others")

    def _down(self, host: str) -> FetchError:
        return FetchError("host_down", f"{host} gave no answer {self._failed(host)} times in a row")


def _now() -> float:
    return asyncio.get_running_loop().time()


def _refuse(turns: Iterable[_Turn], error: FetchError) -> None:
    for turn in turns:
        if not turn.granted.done():
            turn.granted.set_exception(error)
