"""Fetch: download what a record's URL points at, safely, fairly, politely, and within bounds."""

import asyncio
import hashlib
import logging
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from manifests.record import ModelUse
from stages.base import Context, Drop, Fail, Stage, record_rng
from stages.web.addresses import AllowedHosts, Guard
from stages.web.client import Client
from stages.web.deletions import Deletions, digest_of, read_deletions
from stages.web.hosts import HostLimits, Hosts
from stages.web.params import FetchParams
from stages.web.reasons import REASONS, FetchError
from stages.web.transport import Transport, Wire

if TYPE_CHECKING:
    from stages.web.names import Names, SystemLookup

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchIn:
    """What ``fetch`` reads."""

    key: str
    url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOut:
    """What ``fetch`` writes: the file as it came, and its hex digest."""

    original: bytes
    sha256: str


class Fetch(Stage[FetchIn, FetchOut]):
    """Download every record's URL, many at once, each within one deadline and one size.

    Connections and addresses are kept from batch to batch. Redirects are followed by hand, so that every hop is
    checked as the first URL was. Who asks not to be used, in headers or on a list, is dropped, and never downloaded.
    """

    In, Out, Params = FetchIn, FetchOut, FetchParams
    version = 2
    reasons: ClassVar[Mapping[str, str]] = {name: reason.meaning for name, reason in REASONS.items()}

    def __init__(
        self, params: FetchParams, seed: int, deletions: Deletions | None = None, lookup: "SystemLookup | None" = None
    ) -> None:
        self.params = params
        self._seed = seed
        self._deletions = deletions or Deletions(())
        self._hosts = Hosts(_limits(params))
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        with ExitStack() as on_error:
            on_error.callback(self._runner.close)
            transport, names = self._runner.run(_open(params, lookup))
            on_error.pop_all()
        self._client = Client(params, transport, self._hosts, self._deletions.has_url)
        self._close = weakref.finalize(self, _close, self._runner, transport, names)

    @override
    @classmethod
    def load(cls, params: FetchParams, context: Context) -> "Fetch":
        if params.contact is None:
            logger.warning("fetch: set `contact` to a URL or an e-mail address, so that servers' owners can reach you")
        return cls(params, context.seed, read_deletions(params.deletions))

    @override
    @classmethod
    def models(cls, params: FetchParams) -> tuple[ModelUse, ...]:
        return tuple(ModelUse(name=path, revision=digest_of(path)) for path in params.deletions)

    def close(self) -> None:
        """Close the connections; done too when the stage is no longer used, or the process ends."""
        self._close()

    @override
    @classmethod
    def lives_on(cls, params: FetchParams) -> Mapping[str, str]:
        return {"url": "leave the node out where the source holds the pictures"}

    @override
    def process(self, batch: Sequence[FetchIn]) -> list[FetchOut | Drop | Fail]:
        results: list[FetchOut | Drop | Fail] = []
        self._runner.run(self._fetch_all(batch, results))
        return results

    @override
    def take_seconds(self) -> Sequence[float]:
        return self._client.take_seconds()

    async def _fetch_all(self, batch: Sequence[FetchIn], results: list[FetchOut | Drop | Fail]) -> None:
        """Fill ``results``. Nothing is returned: in the main thread ``Runner.run`` takes the repr of what is."""
        self._hosts.begin_batch()
        try:
            async with asyncio.TaskGroup() as tasks:
                fetches = [tasks.create_task(self._fetch(record)) for record in batch]
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        results += [fetch.result() for fetch in fetches]

    async def _fetch(self, record: FetchIn) -> FetchOut | Drop | Fail:
        if record.url is None:
            return Fail("no_url", "the record has no URL")
        try:
            return await self._download(record.url, record.key)
        except FetchError as error:
            verdict = Drop if REASONS[error.reason].kind == "drop" else Fail
            return verdict(error.reason, f"{record.url}: {error}")

    async def _download(self, url: str, key: str) -> FetchOut:
        if self._deletions.has_url(url):
            raise FetchError("deletion_list", "the URL is on a deletion list")
        body = await self._client.fetch(url, record_rng(self._seed, key, "fetch"))
        sha256 = hashlib.sha256(body).hexdigest()
        if self._deletions.has_file(body, sha256):
            raise FetchError("deletion_list", f"the file, {sha256}, is on a deletion list")
        return FetchOut(original=body, sha256=sha256)


def _limits(params: FetchParams) -> HostLimits:
    return HostLimits(
        in_flight=params.in_flight,
        per_host=params.per_host,
        interval_s=1 / params.requests_per_s if params.requests_per_s else 0.0,
        failures=params.host_failures,
        max_s=params.max_host_s,
    )


async def _open(params: FetchParams, lookup: "SystemLookup | None") -> "tuple[Transport, Names]":
    """What downloads; HTTP clients, which take long to import, are imported only here."""
    from stages.web.http1 import Http1
    from stages.web.http2 import Http2
    from stages.web.names import Names, SystemLookup

    names = Names(Guard(AllowedHosts.parse(params.allow_hosts)), lookup or SystemLookup(params.in_flight))
    headers = (("user-agent", params.user_agent), ("accept", "image/*,*/*;q=0.5"), ("accept-encoding", "identity"))
    wire = Wire(connect_s=params.connect_s, headers=headers, ca_file=params.ca_file)
    return (Http2 if params.http2 else Http1)(wire, names), names


def _close(runner: asyncio.Runner, transport: Transport, names: "Names") -> None:
    runner.run(transport.close())
    runner.run(names.close())
    runner.close()
