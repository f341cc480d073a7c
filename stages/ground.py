"""Ground: give the caption's subjects their boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from manifests.record import DroppedSubject, Subject
from stages.annotated import by_annotations
from stages.base import Context, Drop, Fail, ModelRef, Stage
from stages.detected import DetectorParams, by_detections, phrasing
from stages.grounded import GroundIn, Outcome

if TYPE_CHECKING:
    from stages.models.detector import Detector


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundOut:
    """What ``ground`` writes: subjects in their order, each with a box."""

    subjects: tuple[Subject, ...]
    dropped_subjects: tuple[DroppedSubject, ...]


class GroundParams(DetectorParams):
    """Where boxes come from, and which are good enough.

    ``min_score`` is about the metadata's boxes; ``model`` and what follows, and the thresholds, are the detectors'.
    """

    backend: Literal["metadata", "grounding_dino", "grounding_dino_native"] = Field(
        "metadata",
        description="What finds the boxes: the metadata has them, transformers' Grounding DINO, or groundingdino-py's "
        "own checkpoints.",
    )
    min_score: float = Field(
        0.0, ge=0, le=1, description="Annotations that score less are not used; those without a score count as 1."
    )
    model: str | None = Field(
        None,
        description="Bundled model, hub id or folder (grounding_dino: safetensors), or checkpoint file "
        "(grounding_dino_native).",
    )
    revision: str | None = Field(None, description="Commit or tag of a hub id; needed with one.")
    model_type: Literal["swin_t", "swin_b"] = Field(
        "swin_t", description="Backbone of a grounding_dino_native checkpoint."
    )
    text_encoder: str | None = Field(
        None,
        description="Folder or hub id of bert-base-uncased, for the tokenizer and configuration that a "
        "grounding_dino_native checkpoint lacks.",
    )
    text_encoder_revision: str | None = Field(None, description="Commit or tag of that hub id; needed with one.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Type that the network computes in; auto is bfloat16 on GPUs, float32 on CPUs."
    )
    require: bool = Field(True, description="Drop records of which no subject has a box.")
    images_per_call: int = Field(
        4,
        ge=1,
        le=1024,
        description="Pictures of one padded size that a network gets at once; calls with fewer are filled up, so that "
        "all are alike. A batch_size several times as large fills calls better.",
    )

    @model_validator(mode="after")
    def _models_where_needed(self) -> Self:
        if (self.backend == "metadata") != (self.model is None):
            does = "takes no model" if self.model else "needs a model"
            raise ValueError(f"backend {self.backend!r} {does}")
        if (self.backend == "grounding_dino_native") != (self.text_encoder is not None):
            does = "takes no text_encoder" if self.text_encoder else "needs a text_encoder"
            raise ValueError(f"backend {self.backend!r} {does}")
        return self


class Ground(Stage[GroundIn, GroundOut]):
    """Give every subject the box and score of what names it, and drop those that have none.

    Boxes of the metadata bring their masks along; a plural subject gets the box around all that are its own.
    """

    In, Out, Params = GroundIn, GroundOut, GroundParams
    reasons: ClassVar[Mapping[str, str]] = {
        "not_grounded": "Nothing is left that it names: other subjects fit better, or no annotation does.",
        "low_score": "What it names scores no more than the thresholds, or less than min_score, or no number.",
        "bad_box": "The boxes that it names are empty, outside the image or no numbers.",
        "too_many_boxes": "It names more boxes than max_boxes_per_phrase.",
        "phrase_too_long": "The phrase alone is longer than the detector's text encoder can read.",
        "unknown_words": "The detector's vocabulary has none of the phrase's words.",
        "no_subject_grounded": "No subject of the record has a box.",
    }
    reads_of_subjects = frozenset({"phrase", "span", "head", "head_span", "is_plural"})
    writes_to_subjects = frozenset({"box", "score", "mask"})

    def __init__(self, params: GroundParams, detector: "Detector | None" = None) -> None:
        self.params = params
        self._detector = detector

    @override
    @classmethod
    def load(cls, params: GroundParams, context: Context) -> Self:
        return cls(params, None if params.backend == "metadata" else _load(params, context.device))

    @override
    @classmethod
    def wants(cls, params: GroundParams) -> tuple[ModelRef, ...]:
        if params.backend == "metadata":
            return ()
        model = ModelRef(name=params.model, revision=params.revision)
        return (model,) if params.backend == "grounding_dino" else (model, _text_encoder(params))

    @override
    @classmethod
    def lives_on(cls, params: GroundParams) -> Mapping[str, str]:
        if params.backend != "metadata" or not params.require:
            return {}
        return {"annotations": "have boxes found: params {backend: grounding_dino, model: …, revision: …}"}

    @override
    def process(self, batch: Sequence[GroundIn]) -> list[GroundOut | Drop | Fail]:
        found = self._detect(batch) if self._detector else [by_annotations(r, self.params.min_score) for r in batch]
        return [_out(record, outcomes, self.params) for record, outcomes in zip(batch, found, strict=True)]

    def _detect(self, batch: Sequence[GroundIn]) -> list[list[Outcome]]:
        assert self._detector
        phrases = [list(phrasing(record.subjects)) for record in batch]
        found = self._detector([record.image for record in batch], phrases)
        return [by_detections(record, mine, self.params) for record, mine in zip(batch, found, strict=True)]


def _out(record: GroundIn, outcomes: Sequence[Outcome], params: GroundParams) -> GroundOut | Drop:
    grounded = tuple(
        _without_old_crops(outcome, before)
        for outcome, before in zip(outcomes, record.subjects, strict=True)
        if isinstance(outcome, Subject)
    )
    dropped = tuple(
        DroppedSubject(phrase=subject.phrase, stage="ground", reason=outcome)
        for subject, outcome in zip(record.subjects, outcomes, strict=True)
        if isinstance(outcome, str)
    )
    if not grounded and params.require:
        return Drop("no_subject_grounded", ", ".join(f"{lost.phrase}: {lost.reason}" for lost in dropped)[:300])
    return GroundOut(subjects=grounded, dropped_subjects=record.dropped_subjects + dropped)


def _without_old_crops(subject: Subject, before: Subject) -> Subject:
    """The subject without what was cut out at another place than it has now."""
    if subject.box == before.box:
        return subject
    return replace(subject, crop=None, crop_key=None, head_box=None, head_crop=None)


def _text_encoder(params: GroundParams) -> ModelRef:
    files = ("config.json", "tokenizer*.json", "vocab.txt")
    return ModelRef(name=params.text_encoder, revision=params.text_encoder_revision, files=files)


def _load(params: GroundParams, device: str) -> "Detector":
    from stages.models.detector import BatchDetector
    from stages.models.grounding_dino import load_grounding_dino
    from stages.models.memory import CallSize
    from stages.models.precision import dtype_of

    ref = ModelRef(name=params.model, revision=params.revision)
    if params.backend == "grounding_dino_native":
        from stages.models.grounding_dino_native import load_native

        loaded = load_native(params.model_type, ref, _text_encoder(params), device)
    else:
        loaded = load_grounding_dino(ref, device)
    return BatchDetector(
        network=loaded.network,
        frame=loaded.frame,
        writer=loaded.writer,
        device=device,
        precision=dtype_of(params.precision, device),
        calls=CallSize(params.images_per_call, "images_per_call"),
        phrase_score=params.phrase_score,
    )
