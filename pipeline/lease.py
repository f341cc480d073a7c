"""Who may write into an output folder: one driver at a time, as long as it gives signs of life.

Each driver takes a term, the next number after the last: ``lease/000003.json`` is created on the condition that it is
not there, which disks and stores decide for one of several. The highest term holds the folder. Its driver writes a
heartbeat beside it; a term is free if its driver ended it, died on this machine, or has been silent for too long.
Files are never taken away, so a driver, or a worker of one, has lost the folder as soon as the term after its own is
there: one small request tells, and nobody's clock is asked.

How long a driver is silent is measured by the clock of the disk or store alone: the age of its heartbeat against that
of a file written now. Only ``status``, which writes nothing, uses this machine's clock.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path

from manifests.files import create, read_files, write_atomically
from manifests.record import from_plain, to_plain
from manifests.store import StorePath
from pipeline.actor import FatalError
from pipeline.deadline import within
from pipeline.ledger import Layout, ResumeError, numbered
from pipeline.live import Live

SILENCE_S = 60.0
"""After so long without a heartbeat another driver may take the folder over."""

_BEATS = 4
"""Heartbeats in that time: some may get lost."""

_LAST_BEAT_S = 5.0
"""So long the end waits for a heartbeat that is on its way."""

_LAST_WORD_S = 30.0
"""So long the end tries to say that it is one."""

_ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who took a term.

    Attributes:
        token: Unlike any other.
        host: The machine as people know it.
        pid: The process there; ``machine`` says among whose ids, empty if that cannot be told.
        born: When the process began, as the machine counts.
        since: UTC, ISO 8601.
        silence_s: How long it may be silent.
    """

    token: str
    host: str
    pid: int
    machine: str
    born: str
    since: str
    silence_s: float

    @classmethod
    def here(cls, silence_s: float) -> "Holder":
        """This process."""
        return cls(
            token=uuid.uuid4().hex,
            host=socket.gethostname(),
            pid=os.getpid(),
            machine=_machine(),
            born=born(os.getpid()),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            silence_s=silence_s,
        )

    @property
    def is_gone(self) -> bool:
        """Whether it was a process of this machine and is no more."""
        return bool(self.machine) and self.machine == _machine() and self.born != born(self.pid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A term that its driver has not ended, how long ago its last sign of life was, and what was under way then."""

    holder: Holder
    silent_s: float
    in_flight: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_alive(self) -> bool:
        """Whether the folder is still its own."""
        return not self.holder.is_gone and self.silent_s <= self.holder.silence_s

    def __str__(self) -> str:
        holder = self.holder
        seen = f"last heartbeat {max(0, self.silent_s):.0f} s ago"
        return f"{holder.host}, process {holder.pid}, since {holder.since}, {seen}"


@dataclass(frozen=True, slots=True)
class _Beat:
    """What a heartbeat says: its number, or that it is the last; what Ray has spilled by then, and where units are."""

    word: str
    spilled: int = 0
    in_flight: Mapping[str, int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        where = f" {json.dumps(dict(self.in_flight))}" if self.in_flight else ""
        return f"{self.word} {self.spilled}{where}\n".encode()

    @classmethod
    def of(cls, data: bytes) -> "_Beat":
        """The beat that was written; an older Inlay's tells less."""
        word, spilled, in_flight = [*data.decode(errors="replace").strip().split(" ", 2), "", "", ""][:3]
        return cls(word, int(spilled) if spilled.isdecimal() else 0, _counts(in_flight))


@contextmanager
def hold(layout: Layout, silence_s: float, live: Live | None = None) -> Iterator[int]:
    """Hold the folder and keep the lease alive; yields the term. Heartbeats tell what ``live`` does.

    Raises:
        ResumeError: If another driver holds it, saying who.
        FatalError: If the store does not keep the promise this rests on.
    """
    term, live = _take(layout, Holder.here(silence_s)), live or Live()
    stopped = threading.Event()
    heart = threading.Thread(target=_beat, args=(layout, term, silence_s / _BEATS, live, stopped), daemon=True)
    heart.start()
    try:
        yield term
    finally:
        stopped.set()
        heart.join(_LAST_BEAT_S)
        with suppress(OSError):  # then others wait until the silence is long enough
            last = _Beat(_ENDED, live.spilled).to_bytes()
            within(_LAST_WORD_S, "", partial(write_atomically, layout.heartbeat(term), last))


def check(layout: Layout, term: int) -> None:
    """Refuse to go on after another driver took over.

    Raises:
        FatalError: Saying so.
    """
    try:
        layout.lease(term + 1).read_bytes()
    except FileNotFoundError:
        return
    raise FatalError(f"{layout.root}: another run has taken this folder over; this one, term {term}, writes no more")


def current(layout: Layout, now: float | None = None) -> Hold | None:
    """Who holds the folder, alive or not; nobody if the last driver ended its term.

    Args:
        layout: The folder.
        now: Seconds of the clock that dates its files; without it, this machine's.
    """
    term = _last_term(layout)
    holder = _holder(layout, term) if term else None
    if holder is None:
        return None
    beat = layout.heartbeat(term)
    try:
        last, seen = _Beat.of(beat.read_bytes()), beat.stat().st_mtime
    except FileNotFoundError:
        last, seen = _Beat(""), layout.lease(term).stat().st_mtime
    if last.word == _ENDED:
        return None
    return Hold(holder=holder, silent_s=(time.time() if now is None else now) - seen, in_flight=last.in_flight)


def spilled(layout: Layout) -> int:
    """Bytes that Ray wrote to disk for want of memory while the folder's drivers went on, by their last heartbeats."""
    beats = [path for path in layout.heartbeat(0).parent.glob("[0-9]*.beat") if path.stem.isdecimal()]
    return sum(_Beat.of(data).spilled for data in read_files(beats))


def _take(layout: Layout, holder: Holder) -> int:
    """Take the next term."""
    last, data = _last_term(layout), json.dumps(to_plain(holder)).encode()
    if last:
        _refuse_if_held(layout)
    term = last + 1  # not the next after one that began meanwhile
    try:
        create(layout.lease(term), data)
    except FileExistsError:
        if layout.lease(term).read_bytes() != data:  # else the answer got lost, and it was asked for again
            _refuse_if_held(layout)
            raise ResumeError(f"{layout.root}: another run began here at the same time; start this one again") from None
    _check_promise(layout, term, data)
    return term


def _refuse_if_held(layout: Layout) -> None:
    held = current(layout, _clock(layout))
    if held and held.is_alive:
        raise ResumeError(
            f"{layout.root}: another run is writing here ({held}); stop it or wait for it. After "
            f"{held.holder.silence_s:g} s without a heartbeat this command takes over"
        )


def _check_promise(layout: Layout, term: int, data: bytes) -> None:
    """See that the store refuses to create what is there, without which two runs could commit one unit."""
    if isinstance(layout.root, StorePath):
        try:
            create(layout.lease(term), data)
        except FileExistsError:
            return
        raise FatalError(
            f"{layout.root}: this store overwrites objects that were to be created only (it ignores If-None-Match); "
            "two runs could not be told apart. Use one that honours it, or a local folder"
        )


def _beat(layout: Layout, term: int, every_s: float, live: Live, stopped: threading.Event) -> None:
    for number in count(1):
        if stopped.wait(every_s):
            return
        with suppress(OSError):  # the store is away; the next beat may get through
            write_atomically(layout.heartbeat(term), _Beat(str(number), live.spilled, live.in_flight).to_bytes())


def _counts(text: str) -> dict[str, int]:
    """Units by where they are; none if that is not legible."""
    try:
        counts: dict[str, int] = json.loads(text)
        return {place: int(units) for place, units in counts.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _last_term(layout: Layout) -> int:
    return max(map(int, numbered(layout.lease(0).parent)), default=0)


def _holder(layout: Layout, term: int) -> Holder:
    """Who took a term; somebody unknown if that is not yet, or no longer, legible."""
    try:
        holder: Holder = from_plain(Holder, json.loads(layout.lease(term).read_text()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Holder(token="", host="unknown", pid=0, machine="", born="", since="?", silence_s=SILENCE_S)
    return holder


def _clock(layout: Layout) -> float:
    """The time on the clock that dates this folder's files."""
    probe = layout.lease(0).with_name(f".probe.{uuid.uuid4().hex}.tmp")
    write_atomically(probe, b"")
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _machine() -> str:
    """What tells apart the machines, boots and containers whose process ids mean different things; Linux only."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def born(pid: int) -> str:
    """When a process of this machine began, as it counts; empty if there is none, or only what is left of it."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]
