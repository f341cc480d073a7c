"""When a URL is tried again: what may pass, after a pause, within the deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import TypeVar

from stages.web.reasons import FetchError

T = TypeVar("T")

_PASSING = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and when to try again.

    Attributes:
        most: More tries after the first.
        backoff_s: The first pause; it doubles each time, give or take half, and is never less than the server asks for.
    """

    most: int
    backoff_s: float

    async def insist(self, ask: Callable[[], Awaitable[T]], rng: Random, ends_at: Callable[[], float | None]) -> T:
        """Try until it works, can't work, or the next pause would end after the deadline.

        A loop of our own: on a first try that works, as most do, tenacity costs a tenth of a download's CPU time.

        Args:
            ask: One try.
            rng: Draws the jitter.
            ends_at: The deadline by the event loop's clock, once it is known.

        Raises:
            FetchError: That of the last try.
        """
        for attempt in range(self.most):
            try:
                return await ask()
            except FetchError as error:
                pause = max(self.backoff_s * 2**attempt * rng.uniform(0.5, 1.5), error.retry_after_s or 0.0)
                now = asyncio.get_running_loop().time()
                if not error.is_passing or now + pause > (ends_at() or now):
                    raise
            await asyncio.sleep(pause)
        return await ask()


def status_error(status: int, retry_after: str) -> FetchError:
    """The error that a status other than 200, 203 and 204 is.

    Args:
        status: Of HTTP.
        retry_after: Value of ``Retry-After``; empty if there is none.
    """
    if status in (403, 404, 429):
        reason = f"http_{status}"
    else:
        reason = {4: "http_4xx", 5: "http_5xx"}.get(status // 100, "bad_response")
    is_passing = status in _PASSING or reason == "http_5xx"
    pause = seconds_until(retry_after) if is_passing else None
    message = f"status {status}" + (f", Retry-After: {retry_after}" if retry_after else "")
    return FetchError(reason, message, is_passing, pause)


def seconds_until(text: str) -> float | None:
    """What a ``Retry-After`` says, seconds or a date, as seconds from now; ``None`` if it says nothing readable."""
    if text.isdecimal() and text.isascii():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
