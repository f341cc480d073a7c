"""Reference images: subjects cut out of the original, at its resolution."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from pydantic import Field
from typing_extensions import override

from manifests.record import DroppedSubject, Mask, Picture, Subject
from stages.base import Context, Drop, Fail, Stage
from stages.cutting import CutParams, cut, window_of
from stages.geometry import Window, grow
from stages.masks import mask_area


@dataclass(frozen=True, slots=True, kw_only=True)
class CropIn:
    """What ``crop`` reads."""

    original: bytes
    original_width: int
    original_height: int
    image: Picture
    subjects: tuple[Subject, ...]
    dropped_subjects: tuple[DroppedSubject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CropOut:
    """What ``crop`` writes."""

    subjects: tuple[Subject, ...]
    dropped_subjects: tuple[DroppedSubject, ...]


class CropParams(CutParams):
    """What a manifest may set on ``crop``."""

    style: Literal["box", "segmented"] = Field(
        "segmented", description="The whole box, or the subject's mask over a plain fill."
    )
    margin: float = Field(0, ge=0, le=1, description="Share of the box's sides added on every side.")
    min_side: int = Field(
        32, ge=1, description="Crops narrower or lower than this, in pixels of the original, drop the subject."
    )


class Crop(Stage[CropIn, CropOut]):
    """Give every subject its crop, cut from the original before any resize, in the box's proportions.

    Cutting first and resizing after is how λ-ECLIPSE keeps the detail of small subjects.
    """

    In, Out, Params = CropIn, CropOut, CropParams
    reasons: ClassVar[Mapping[str, str]] = {
        "crop_too_small": "The crop is narrower or lower than `min_side`.",
        "empty_mask": "The mask of the subject has no pixel, so that a segmented crop would show none of it.",
        "no_mask": "Segmented crops need a mask of every subject, and one has none.",
    }
    reads_of_subjects = frozenset({"box"})
    writes_to_subjects = frozenset({"crop"})

    def __init__(self, params: CropParams) -> None:
        self.params = params

    @override
    @classmethod
    def load(cls, params: CropParams, context: Context) -> Self:
        return cls(params)

    @override
    def process(self, batch: Sequence[CropIn]) -> list[CropOut | Drop | Fail]:
        return [self._crop(record) for record in batch]

    def _crop(self, record: CropIn) -> CropOut | Fail:
        subjects, dropped = [], list(record.dropped_subjects)
        for subject in record.subjects:
            window = self._window(record, subject)
            if self.params.style == "segmented" and subject.mask is None:
                return Fail(
                    "no_mask",
                    f"subject {subject.phrase!r} has no mask; put a segment node before crop, or set style: box",
                )
            mask = subject.mask if self.params.style == "segmented" else None
            reason = self._unfit(window, mask)
            if reason:
                dropped.append(DroppedSubject(phrase=subject.phrase, stage="crop", reason=reason))
            else:
                subjects.append(replace(subject, crop=cut(record, window, self.params, mask)))
        return CropOut(subjects=tuple(subjects), dropped_subjects=tuple(dropped))

    def _unfit(self, window: Window, mask: Mask | None) -> str | None:
        if min(window.width, window.height) < self.params.min_side:
            return "crop_too_small"
        return "empty_mask" if mask and not mask_area(mask) else None

    def _window(self, record: CropIn, subject: Subject) -> Window:
        assert subject.box is not None, "promised by reads_of_subjects"
        return window_of(record, grow(subject.box, self.params.margin))
