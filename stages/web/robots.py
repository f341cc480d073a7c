"""robots.txt: asked for once per server, kept, and obeyed as RFC 9309 says."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protego import Protego
from yarl import URL

from stages.web.reasons import FetchError

MAX_BYTES = 2**20
"""Largest robots.txt. RFC 9309, section 2.5: at least 500 kibibytes are to be read."""

MAX_REDIRECTS = 5
"""RFC 9309, section 2.3.1.2: at least five."""

_KEPT_S = 24 * 3600.0
"""RFC 9309, section 2.4: not to be kept for longer than 24 hours."""

_UNKNOWN_S = 300.0
"""How long a server that could not say is not asked again. Ours."""

_MOST_KEPT = 20_000

Ask = Callable[[URL], Awaitable[bytes]]
"""GETs a URL, or raises FetchError."""

Pace = Callable[[URL, float], None]
"""Takes note of the least seconds between requests to a server, which a robots.txt that lies there asks for."""


@dataclass(frozen=True, slots=True)
class _Kept:
    asked: float
    rules: "asyncio.Task[Protego | None]"

    def is_fresh(self, now: float) -> bool:
        """Whether the answer, or the wait for it, still counts."""
        if self.rules.cancelled() or (self.rules.done() and self.rules.exception()):
            return False
        is_unknown = self.rules.done() and self.rules.result() is None
        return now < self.asked + (_UNKNOWN_S if is_unknown else _KEPT_S)


class Robots:
    """Says whether a server's robots.txt lets us have a URL.

    Args:
        bot: Our name.
        ask: Gets a robots.txt, at most ``MAX_BYTES`` of it, over at most ``MAX_REDIRECTS`` redirects.
        pace: Told every server's ``Crawl-delay``; 0 if it has none.
    """

    def __init__(self, bot: str, ask: Ask, pace: Pace) -> None:
        self._bot = bot
        self._ask = ask
        self._pace = pace
        self._kept: dict[str, _Kept] = {}

    async def check(self, url: URL) -> None:
        """Refuse a URL that may not be had.

        Raises:
            FetchError: ``robots_txt``.
        """
        place = url.origin() / "robots.txt"
        rules = await self._rules(place)
        if rules is None:
            raise FetchError("robots_txt", f"{place} could not be had, which disallows all (RFC 9309, 2.3.1.4)")
        if not rules.can_fetch(str(url), self._bot):
            raise FetchError("robots_txt", f"{place} disallows it for {self._bot}")

    async def _rules(self, place: URL) -> Protego | None:
        """Asked for once for all who wait; whoever gives up leaves the others their answer."""
        now = asyncio.get_running_loop().time()
        kept = self._kept.get(str(place))
        if kept is None or not kept.is_fresh(now):
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            kept = _Kept(now, asyncio.create_task(self._load(place)))
            self._kept[str(place)] = kept
        return await asyncio.shield(kept.rules)

    async def _load(self, place: URL) -> Protego | None:
        rules = await self._read(place)
        delay_s = rules.crawl_delay(self._bot) if rules else None
        self._pace(place, min(delay_s or 0.0, _KEPT_S))
        return rules

    async def _read(self, place: URL) -> Protego | None:
        """The rules; ``None`` if the server cannot say. One that has none, by a status of 4xx, allows all."""
        try:
            body = await self._ask(place)
        except FetchError as error:
            is_absent = error.reason.startswith("http_4") and error.reason != "http_429"
            return Protego.parse("") if is_absent or error.reason == "empty" else None
        return Protego.parse(body.decode("utf-8", "replace").removeprefix("\ufeff"))
