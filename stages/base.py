"""What a stage is: one result per record, in order; dropping and failing are values with a reason."""

import hashlib
import random
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import NoneType
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from manifests.record import ModelUse

InT = TypeVar("InT")
OutT = TypeVar("OutT")


class Params(BaseModel):
    """What a manifest may set on a stage. Unknown names are refused; every field has a description."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Drop:
    """This record is unfit for this manifest. ``reason`` is a key of the stage's ``reasons``."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Fail:
    """This record could not be had or processed. ``reason`` is a key of the stage's ``reasons``."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a stage is told about the run.

    Attributes:
        device: Where its models go: ``cpu`` or ``cuda``.
        seed: The run's seed.
    """

    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A model as a manifest names it.

    Attributes:
        name: Name of a bundled model, a folder, a checkpoint file, or a hub id (``owner/name``).
        revision: Commit or tag of a hub id; ``None`` for all others.
        files: Glob patterns of the files of a hub id that are needed; empty: those any transformers model has.
    """

    name: str | None
    revision: str | None = None
    files: tuple[str, ...] = ()


class Stage(ABC, Generic[InT, OutT]):
    """A typed map over batches of records.

    ``In`` and ``Out`` are frozen dataclasses whose fields are fields of ``Record``: what the stage reads and writes. An
    ``In`` field that is optional in ``Record`` and not here is promised to be there: some step before has written it.

    Attributes:
        In: Fields read.
        Out: Fields written.
        Params: What a manifest may set.
        version: Raised whenever the output for the same input changes; part of a run's fingerprint.
        reasons: Every reason this stage drops or fails a record (or drops a subject) for, with a line for people.
        reads_of_subjects: Fields of each subject that must have been written, when ``In`` has ``subjects``.
        writes_to_subjects: Fields of each subject that are written, when ``Out`` has ``subjects``.
        takes_unit: ``process`` gets all living records of a unit at once, so that it may compare them.
    """

    In: ClassVar[type[Any]]
    Out: ClassVar[type[Any]]
    Params: ClassVar[type[Params]]
    version: ClassVar[int] = 1
    reasons: ClassVar[Mapping[str, str]] = {}
    reads_of_subjects: ClassVar[frozenset[str]] = frozenset()
    writes_to_subjects: ClassVar[frozenset[str]] = frozenset()
    takes_unit: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def load(cls, params: Any, context: Context) -> Self:
        """Build the stage with its models. Called once per worker; heavy imports belong here."""

    @classmethod
    def models(cls, params: Any) -> tuple[ModelUse, ...]:
        """The models these parameters choose, without loading them; part of a run's fingerprint and of lineage.

        Raises:
            ValueError: If a model is missing, saying where it was looked for and what to do.
        """
        from stages.models.weights import model_use

        return tuple(map(model_use, cls.wants(params)))

    @classmethod
    def wants(cls, params: Any) -> tuple[ModelRef, ...]:
        """The models these parameters name, here or not; what ``models prefetch`` downloads."""
        return ()

    @classmethod
    def lives_on(cls, params: Any) -> Mapping[str, str]:
        """Fields that ``In`` lets be empty, without which these parameters lose every record, and what else to do."""
        return {}

    @abstractmethod
    def process(self, batch: Sequence[InT]) -> list[OutT | Drop | Fail]:
        """One result per record, in order.

        Must not depend on how records were batched (unless ``takes_unit``), nor on any state but the record's.
        """

    def take_seconds(self) -> Sequence[float]:
        """Seconds of each record since the last call, of stages that work on many at once; others tell nothing."""
        return ()


def field_names(view: type[Any]) -> frozenset[str]:
    """The record's fields that a view, an ``In`` or an ``Out``, has."""
    return frozenset(field.name for field in fields(view))


def required_fields(view: type[Any]) -> frozenset[str]:
    """The fields of an ``In`` view that must not be ``None``."""
    return frozenset(
        name for name, hint in typing.get_type_hints(view).items() if NoneType not in typing.get_args(hint)
    )


def record_rng(seed: int, key: str, purpose: str) -> random.Random:
    """Random numbers that depend on the run's seed, the record and the purpose, and on nothing else."""
    digest = hashlib.sha256(f"{seed}\0{key}\0{purpose}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))
