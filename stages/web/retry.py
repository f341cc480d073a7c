"""When a URL is tried again: what may pass, after a pause, within the deadline."""

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.stop import stop_base

from stages.web.reasons import FetchError

_PASSING = frozenset({408, 425, 429})


def retrying(retries: int, backoff_s: float, rng: Random, ends_at: Callable[[], float | None]) -> AsyncRetrying:
    """A policy for one URL.

    The pause doubles each time, give or take half, and is never less than the server asks for. One that would end
    after the deadline is not begun, and the last error stands.

    Args:
        retries: More tries after the first.
        backoff_s: The first pause.
        rng: Draws the jitter.
        ends_at: The deadline by the event loop's clock, once it is known.
    """

    def pause(state: RetryCallState) -> float:
        error = _error(state)
        backoff = math.ldexp(backoff_s, state.attempt_number - 1) * rng.uniform(0.5, 1.5)
        return max(backoff, (error and error.retry_after_s) or 0.0)

    return AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, FetchError) and error.is_passing),
        stop=stop_after_attempt(retries + 1) | _StopBefore(ends_at),
        wait=pause,
        sleep=asyncio.sleep,
        reraise=True,
    )


class _StopBefore(stop_base):
    def __init__(self, ends_at: Callable[[], float | None]) -> None:
        self._ends_at = ends_at

    def __call__(self, retry_state: RetryCallState) -> bool:
        now = asyncio.get_running_loop().time()
        return now + retry_state.upcoming_sleep > (self._ends_at() or now)


def _error(state: RetryCallState) -> FetchError | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, FetchError) else None


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
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
