"""The state: where a stream stands, small, plain, and the same on every rank."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from manifests.record import to_plain
from training.stream.order import OrderParams, Segment
from training.stream.snapshot import Fingerprint

STATE_VERSION = 1


class StateError(ValueError):
    """A state that this stream can't go on from; the message names what differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A sample whose bytes are damaged: a spare stands in for it wherever it would come.

    ``source``: which data set; ``path`` and ``offset``: where it is, as a damaged sample's key may be another's too.
    """

    source: int
    path: str
    offset: int
    key: str
    reason: str
    message: str

    @property
    def place(self) -> tuple[int, str, int]:
        """What identifies it."""
        return self.source, self.path, self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Era:
    """A segment of the order as a state has it, with what its samples were. ``epochs`` of it are settled at least."""

    epoch: int
    step: int
    epochs: int
    carry: tuple[int, ...]
    turns: tuple[int, ...]
    repeats: tuple[str, ...]
    sources: tuple[Fingerprint, ...]

    @classmethod
    def of(cls, segment: Segment, epochs: int, sources: Sequence[Fingerprint]) -> "Era":
        """The era of a segment."""
        return cls(
            epoch=segment.epoch,
            step=segment.step,
            epochs=epochs,
            carry=segment.carry,
            turns=segment.turns,
            repeats=tuple(map(str, segment.repeats)),
            sources=tuple(sources),
        )

    def segment(self, params: OrderParams, counts: tuple[tuple[int, ...], ...], before: Segment | None) -> Segment:
        """The segment of this era over sources that hold ``counts``."""
        return Segment(
            params=params,
            epoch=self.epoch,
            step=self.step,
            counts=counts,
            repeats=tuple(map(Fraction, self.repeats)),
            turns=self.turns,
            carry=self.carry,
            before=before,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that resuming needs.

    Attributes:
        settings: What the order and the pixels depend on besides the data: seed, batch size, recipe and so on.
        step: Global batches handed out so far.
        eras: The one the step is in, those before it whose samples are still carried over, and the next if its data is
            already settled.
        damaged: How often a damaged sample came so far, on all ranks.
        quarantine: Damaged samples that all ranks found so far.
    """

    settings: Mapping[str, Any]
    step: int
    eras: tuple[Era, ...]
    damaged: int
    quarantine: tuple[Quarantined, ...]

    def to_plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"version": STATE_VERSION, **to_plain(self)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "State":
        """The state that :meth:`to_plain` gave.

        Raises:
            StateError: If it is no state, or a newer Inlay's.
        """
        if plain.get("version") != STATE_VERSION:
            raise StateError(
                f"a stream's state has version {STATE_VERSION} here, got {plain.get('version')!r}; "
                "use the Inlay that saved it, or start without a state"
            )
        try:
            state = cls(
                settings=plain["settings"],
                step=plain["step"],
                eras=tuple(_era(era) for era in plain["eras"]),
                damaged=plain.get("damaged", len(plain["quarantine"])),  # earlier states have no count
                quarantine=tuple(Quarantined(**sample) for sample in plain["quarantine"]),
            )
        except (KeyError, TypeError) as error:
            raise StateError(f"a stream's state is damaged: {error!r}") from None
        if not (isinstance(state.step, int) and state.step >= 0 and state.eras):
            raise StateError(f"a stream's state is damaged: step {state.step!r} in {len(state.eras)} eras")
        return state

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse to go on under other settings.

        Raises:
            StateError: Naming each that differs, with both values.
        """
        then, now = dict(_flat(self.settings)), dict(_flat(settings))
        changed = [name for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]
        if changed:
            lines = [f"  {name}: was {then.get(name, 'absent')}, is {now.get(name, 'absent')}" for name in changed]
            raise StateError(
                "the state was saved under other settings:\n"
                + "\n".join(lines)
                + "\nUndo the change to resume, or start a new run without the state."
            )


def _era(plain: Mapping[str, Any]) -> Era:
    return Era(
        epoch=plain["epoch"],
        step=plain["step"],
        epochs=plain["epochs"],
        carry=tuple(plain["carry"]),
        turns=tuple(plain["turns"]),
        repeats=tuple(plain["repeats"]),
        sources=tuple(Fingerprint.from_plain(source) for source in plain["sources"]),
    )


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Nested settings by dotted name."""
    if isinstance(value, Mapping):
        return [pair for key, part in value.items() for pair in _flat(part, f"{name}.{key}" if name else key)]
    return [(name, list(value) if isinstance(value, tuple) else value)]
