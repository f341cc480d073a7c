"""One URL to one file: places, deadlines, redirects, retries, manners."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

from yarl import URL

from stages.web.body import BodyLimits, read_body
from stages.web.hosts import Hosts
from stages.web.manners import Manners
from stages.web.params import FetchParams
from stages.web.reasons import FetchError
from stages.web.retry import Retries, status_error
from stages.web.robots import MAX_BYTES, MAX_REDIRECTS, Robots
from stages.web.transport import Answer, Transport
from stages.web.url import authority, check_url

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FILES = frozenset({200, 203, 204})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Errand:
    """What is asked for, and which wishes of servers count."""

    max_redirects: int
    limits: BodyLimits
    manners: Manners | None = None
    robots: Robots | None = None
    is_listed: Callable[[str], bool] | None = None


class Client:
    """Fetches URLs over a transport, each within one deadline that begins with its first request.

    A place at a host is held from a request to its answer's last byte, and not while pausing before the next try. No
    redirect is followed to a URL that ``is_listed``.
    """

    def __init__(
        self, params: FetchParams, transport: Transport, hosts: Hosts, is_listed: Callable[[str], bool] | None = None
    ) -> None:
        self._params = params
        self._transport = transport
        self._hosts = hosts
        self._retries = Retries(params.retries, params.backoff_s)
        self._seconds: list[float] = []
        tags = frozenset(tag.lower() for tag in params.refused_tags)
        self._errand = _Errand(
            max_redirects=params.max_redirects,
            limits=_limits(params, params.max_bytes),
            manners=Manners(bot=params.bot.lower(), refused_tags=tags, respects_tdm=params.respect_tdm),
            robots=Robots(params.bot, self._fetch_robots, self._pace) if params.robots_txt else None,
            is_listed=is_listed,
        )

    async def fetch(self, text: str, rng: Random) -> bytes:
        """The file at a URL.

        Args:
            text: The URL as the metadata has it.
            rng: Draws the pauses between tries.

        Raises:
            FetchError: If there is none.
        """
        return await self._fetch(check_url(text), self._errand, rng)

    def take_seconds(self) -> list[float]:
        """Seconds of each URL that was asked for since the last call, from its first request to its end, well or not.

        The wait for a place at its host before that is not in them; pauses between tries are.
        """
        taken, self._seconds = self._seconds, []
        return taken

    async def _fetch_robots(self, place: URL) -> bytes:
        errand = _Errand(max_redirects=MAX_REDIRECTS, limits=_limits(self._params, MAX_BYTES))
        return await self._fetch(place, errand, Random(str(place)))

    def _pace(self, place: URL, interval_s: float) -> None:
        self._hosts.pace(authority(place), interval_s)

    async def _fetch(self, url: URL, errand: _Errand, rng: Random) -> bytes:
        try:
            async with asyncio.timeout(None) as deadline:
                return await self._retries.insist(lambda: self._follow(url, errand, deadline), rng, deadline.when)
        except TimeoutError as error:
            raise FetchError("timeout", f"not done within timeout_s, {self._params.timeout_s:g} s") from error
        finally:
            if errand is self._errand and (ends_at := deadline.when()) is not None:
                self._seconds.append(asyncio.get_running_loop().time() - (ends_at - self._params.timeout_s))

    async def _follow(self, url: URL, errand: _Errand, deadline: asyncio.Timeout) -> bytes:
        for _ in range(errand.max_redirects + 1):
            if errand.robots:
                await errand.robots.check(url)
            found = await self._ask(url, errand, deadline)
            if isinstance(found, bytes):
                return found
            url = found
            if errand.is_listed and errand.is_listed(str(url)):
                raise FetchError("deletion_list", f"it redirects to {url}, which is on a deletion list")
        raise FetchError("too_many_redirects", f"still redirected after {errand.max_redirects} hops, to {url}")

    async def _ask(self, url: URL, errand: _Errand, deadline: asyncio.Timeout) -> bytes | URL:
        """The file at ``url``, or where it redirects to; asked for again, once, if another broke its connection."""
        try:
            return await self._ask_once(url, errand, deadline, is_forgiven=True)
        except FetchError as error:
            if not error.is_shared:
                raise
        return await self._ask_once(url, errand, deadline, is_forgiven=False)

    async def _ask_once(self, url: URL, errand: _Errand, deadline: asyncio.Timeout, is_forgiven: bool) -> bytes | URL:
        host = authority(url)
        async with self._hosts.place(host, is_urgent=deadline.when() is not None) as attempt:
            attempt.is_forgiven = is_forgiven
            if deadline.when() is None:
                deadline.reschedule(asyncio.get_running_loop().time() + self._params.timeout_s)
            async with self._answered(url) as answer:
                attempt.is_answered = True
                if answer.status in _REDIRECTS and (target := answer.first("location")):
                    return check_url(target, base=url)
                if answer.status not in _FILES:
                    raise self._refused(host, answer)
                if errand.manners:
                    errand.manners.check(answer)
                return await read_body(answer, errand.limits)

    @asynccontextmanager
    async def _answered(self, url: URL) -> AsyncIterator[Answer]:
        wait = asyncio.timeout(self._params.first_byte_s)
        try:
            async with wait, self._transport.get(url) as answer:
                wait.reschedule(None)
                yield answer
        except TimeoutError as error:
            raise FetchError("timeout", f"no answer within first_byte_s, {self._params.first_byte_s:g} s") from error

    def _refused(self, host: str, answer: Answer) -> FetchError:
        """The error of a status; if the server asks for a pause that is no longer than a URL's time, all wait."""
        error = status_error(answer.status, answer.first("retry-after"))
        if error.retry_after_s and error.retry_after_s <= self._params.timeout_s:
            self._hosts.rest(host, error.retry_after_s)
        return error


def _limits(params: FetchParams, max_bytes: int) -> BodyLimits:
    return BodyLimits(max_bytes=max_bytes, idle_s=params.idle_s, min_bytes_per_s=params.min_bytes_per_s)
