"""Boxes to masks. Masks that came with the metadata stay; the others are cut by SAM or, without weights, by GrabCut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias

import cv2
from pydantic import Field, model_validator
from typing_extensions import override

from manifests.record import Box, DroppedSubject, Mask, Picture, Subject
from stages.base import Context, Drop, Fail, ModelRef, Stage, record_rng
from stages.geometry import clip
from stages.grabcut import GrabCutParams, grab_cut, only_inside
from stages.masks import BoolArray, encode_mask, mask_area
from stages.pixels import read_picture

if TYPE_CHECKING:
    from stages.models.segmenter import Cut, Segmenter

Outcome: TypeAlias = Mask | str
"""A subject's mask, or the reason it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentIn:
    """What ``segment`` reads."""

    key: str
    image: Picture
    subjects: tuple[Subject, ...]
    dropped_subjects: tuple[DroppedSubject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOut:
    """What ``segment`` writes."""

    subjects: tuple[Subject, ...]
    dropped_subjects: tuple[DroppedSubject, ...]


class SegmentParams(GrabCutParams):
    """What a manifest may set on ``segment``.

    ``side``, ``iterations``, ``context`` and ``core`` are GrabCut's; ``model`` and what follows are the networks'.
    """

    backend: Literal["grabcut", "sam", "sam2", "sam_native"] = Field(
        "grabcut",
        description="What cuts the masks: GrabCut, transformers' SAM or SAM 2, or segment-anything's own checkpoints.",
    )
    overwrite: bool = Field(False, description="Cut anew where the metadata gave a mask.")
    model: str | None = Field(
        None, description="Hub id or folder (sam, sam2: safetensors), or checkpoint file (sam_native)."
    )
    revision: str | None = Field(None, description="Commit or tag of a hub id; needed with one.")
    model_type: Literal["vit_b", "vit_l", "vit_h"] = Field("vit_b", description="Size of a sam_native checkpoint.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Type that pictures are embedded in; auto is bfloat16 on GPUs, float32 on CPUs."
    )
    images_per_call: int = Field(
        4,
        ge=1,
        le=1024,
        description="Pictures a network embeds at once; calls with fewer are filled up, so that all are alike.",
    )
    boxes_per_call: int = Field(32, ge=1, le=4096, description="Boxes a network decodes at once; filled up likewise.")
    min_predicted_iou: float | None = Field(
        None, description="Masks that the network itself expects to overlap less with the truth are no masks."
    )

    @model_validator(mode="after")
    def _model_where_needed(self) -> Self:
        if (self.backend == "grabcut") != (self.model is None):
            does = "takes no model" if self.model else "needs a model"
            raise ValueError(f"backend {self.backend!r} {does}")
        return self


class Segment(Stage[SegmentIn, SegmentOut]):
    """Give every subject with a box its mask, at the size of the image.

    A subject whose mask has no pixel is dropped: no shape is made up for it.
    """

    In, Out, Params = SegmentIn, SegmentOut, SegmentParams
    reasons: ClassVar[Mapping[str, str]] = {
        "empty_mask": "The mask of the subject has no pixel.",
        "box_outside": "The subject's box lies outside the image.",
        "low_predicted_iou": "The network expects less of the subject's mask than min_predicted_iou.",
    }
    reads_of_subjects = frozenset({"box"})
    writes_to_subjects = frozenset({"mask"})

    def __init__(self, params: SegmentParams, context: Context, segmenter: "Segmenter | None" = None) -> None:
        self.params = params
        self.seed = context.seed
        self._device = context.device
        self._segmenter = segmenter

    @override
    @classmethod
    def load(cls, params: SegmentParams, context: Context) -> Self:
        cv2.setNumThreads(1)
        return cls(params, context, None if params.backend == "grabcut" else _load(params, context.device))

    @override
    @classmethod
    def wants(cls, params: SegmentParams) -> tuple[ModelRef, ...]:
        return () if params.backend == "grabcut" else (ModelRef(name=params.model, revision=params.revision),)

    @override
    def process(self, batch: Sequence[SegmentIn]) -> list[SegmentOut | Drop | Fail]:
        wanted = [self._wanted(record) for record in batch]
        found = self._cut_all(batch, wanted) if self._segmenter else list(map(self._grab_cut_all, batch, wanted))
        return [_out(record, outcomes) for record, outcomes in zip(batch, found, strict=True)]

    def _wanted(self, record: SegmentIn) -> dict[int, Box]:
        """The subjects that need a mask and may get one, by number, each with its box."""
        return {
            number: subject.box
            for number, subject in enumerate(record.subjects)
            if (self.params.overwrite or not subject.mask) and subject.box and _is_inside(subject.box, record.image)
        }

    def _grab_cut_all(self, record: SegmentIn, boxes: Mapping[int, Box]) -> dict[int, Outcome]:
        return {number: encode_mask(self._grab_cut(record, number, box)) for number, box in boxes.items()}

    def _grab_cut(self, record: SegmentIn, number: int, box: Box) -> BoolArray:
        rng = record_rng(self.seed, record.key, f"segment {number}")
        return grab_cut(read_picture(record.image), box, self.params, rng.getrandbits(31))

    def _cut_all(self, batch: Sequence[SegmentIn], wanted: Sequence[Mapping[int, Box]]) -> list[dict[int, Outcome]]:
        """The network's masks for all records at once."""
        from stages.models.ahead import behind

        assert self._segmenter
        found = self._segmenter([record.image for record in batch], [list(boxes.values()) for boxes in wanted])
        return list(behind(self._judge_all, zip(wanted, found, strict=True), self._device))

    def _judge_all(self, found: "tuple[Mapping[int, Box], Sequence[Cut]]") -> dict[int, Outcome]:
        boxes, cuts = found
        return {number: self._judge(cut, box) for (number, box), cut in zip(boxes.items(), cuts, strict=True)}

    def _judge(self, cut: "Cut", box: Box) -> Outcome:
        if self.params.min_predicted_iou is not None and cut.iou < self.params.min_predicted_iou:
            return "low_predicted_iou"
        return encode_mask(self.params.clean(only_inside(cut.mask, box)))


def _is_inside(box: Box, image: Picture) -> bool:
    return clip(box, image.width, image.height) is not None


def _out(record: SegmentIn, found: Mapping[int, Outcome]) -> SegmentOut:
    subjects, dropped = [], list(record.dropped_subjects)
    for number, subject in enumerate(record.subjects):
        outcome = found.get(number, subject.mask or "box_outside")
        if isinstance(outcome, Mask) and not mask_area(outcome):
            outcome = "empty_mask"
        if isinstance(outcome, Mask):
            subjects.append(replace(subject, mask=outcome))
        else:
            dropped.append(DroppedSubject(phrase=subject.phrase, stage="segment", reason=outcome))
    return SegmentOut(subjects=tuple(subjects), dropped_subjects=tuple(dropped))


def _load(params: SegmentParams, device: str) -> "Segmenter":
    from stages.models.memory import CallSize
    from stages.models.precision import dtype_of
    from stages.models.segmenter import BatchSegmenter, Network

    network: Network
    ref = ModelRef(name=params.model, revision=params.revision)
    if params.backend == "sam_native":
        from stages.models.sam_native import load_native

        network = load_native(params.model_type, ref, device)
    else:
        from stages.models.sam import load_sam

        network = load_sam("sam2" if params.backend == "sam2" else "sam", ref, device)
    return BatchSegmenter(
        network=network,
        device=device,
        precision=dtype_of(params.precision, device),
        image_calls=CallSize(params.images_per_call, "images_per_call"),
        box_calls=CallSize(params.boxes_per_call, "boxes_per_call"),
    )
