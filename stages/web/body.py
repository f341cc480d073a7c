"""Reading a body: never more than so many bytes, never slower than so many a second."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from stages.web.encoding import decode_body
from stages.web.reasons import FetchError
from stages.web.transport import Answer

_GRACE_S = 5.0
"""Seconds before a body's speed is judged: TCP starts slowly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """Bounds on a body.

    Attributes:
        max_bytes: Counted as it comes, and again after decompression.
        idle_s: Seconds between two parts.
        min_bytes_per_s: Mean speed from the answer on, judged after 5 s.
    """

    max_bytes: int
    idle_s: float
    min_bytes_per_s: float


async def read_body(answer: Answer, limits: BodyLimits) -> bytes:
    """The whole body, decompressed.

    Raises:
        FetchError: ``too_large``, ``timeout``, ``empty``, ``short_body``, ``bad_response``.
    """
    stated = answer.length or 0
    if stated > limits.max_bytes:
        raise FetchError("too_large", f"{stated} bytes stated; max_bytes is {limits.max_bytes}")
    body = await _collect(answer.body, limits)
    if not body:
        raise FetchError("empty", f"status {answer.status} with no body")
    encodings = answer.all("content-encoding")
    return decode_body(body, encodings, limits.max_bytes) if encodings else body


async def _collect(body: AsyncIterator[bytes], limits: BodyLimits) -> bytes:
    loop = asyncio.get_running_loop()
    began, size = loop.time(), 0
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(limits.idle_s) as idle:
            async for part in body:
                now = loop.time()
                idle.reschedule(now + limits.idle_s)
                parts.append(part)
                size += len(part)
                _judge(size, now - began, limits)
    except TimeoutError as error:
        raise FetchError("timeout", f"no byte within idle_s, {limits.idle_s:g} s, after {size} bytes") from error
    return b"".join(parts)


def _judge(size: int, seconds: float, limits: BodyLimits) -> None:
    if size > limits.max_bytes:
        raise FetchError("too_large", f"more than max_bytes, {limits.max_bytes}")
    if seconds > _GRACE_S and size < limits.min_bytes_per_s * seconds:
        raise FetchError("timeout", f"{size} bytes in {seconds:.1f} s, slower than min_bytes_per_s")
