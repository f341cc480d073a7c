"""What ``ground`` reads, and what becomes of a subject there, whatever finds the boxes."""

from dataclasses import dataclass
from typing import TypeAlias

from manifests.record import Annotation, DroppedSubject, Picture, Subject

Outcome: TypeAlias = Subject | str
"""A subject with its box, or the reason that it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundIn:
    """What ``ground`` reads."""

    caption: str
    subjects: tuple[Subject, ...]
    dropped_subjects: tuple[DroppedSubject, ...]
    annotations: tuple[Annotation, ...]
    image: Picture
    original_width: int
    original_height: int
