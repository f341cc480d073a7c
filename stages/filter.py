"""Filter: what the metadata says of a picture, against bounds, before anything is downloaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from stages.base import Context, Drop, Fail, Params, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterIn:
    """What ``filter`` reads: what the metadata says."""

    aesthetic: float | None
    similarity: float | None
    watermark: float | None
    nsfw: float | None
    stated_width: int | None
    stated_height: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterOut:
    """``filter`` writes nothing."""


class FilterParams(Params):
    """Bounds on what the metadata says; one that is not set lets everything pass."""

    min_aesthetic: float | None = Field(None, description="Least aesthetic score, about 1 to 10 in LAION.")
    min_similarity: float | None = Field(None, description="Least similarity of picture and text, on similarity_scale.")
    similarity_scale: Literal["cosine", "score"] = Field(
        "cosine",
        description="What min_similarity speaks of: the cosine, as LAION and COYO state it, or 2.5 max(cosine, 0), "
        "CLIPScore. Well-matched pairs have cosines of 0.25 to 0.35.",
    )
    max_watermark: float | None = Field(None, ge=0, le=1, description="Highest probability of a watermark.")
    max_nsfw: float | None = Field(None, ge=0, le=1, description="Highest probability of being unsafe.")
    min_width: int | None = Field(None, ge=1, description="Least stated width, in pixels.")
    min_height: int | None = Field(None, ge=1, description="Least stated height, in pixels.")
    min_side: int | None = Field(None, ge=1, description="Least stated shorter side, in pixels.")
    max_aspect: float | None = Field(None, ge=1, description="Highest stated longer by shorter side.")
    missing: Literal["keep", "drop"] = Field(
        "drop", description="What becomes of a record whose metadata does not say what a bound is about."
    )


_SIZE = ("stated_width", "stated_height")


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound that a record may be on the wrong side of.

    Attributes:
        param: Its parameter, ``min_…`` or ``max_…``.
        reason: Why a record goes that is beyond it.
        unstated: Why one goes whose metadata does not say.
        value: What the metadata says, on the parameter's scale.
        fields: The record's fields that say it.
    """

    param: str
    reason: str
    unstated: str
    value: Callable[[FilterIn, FilterParams], float | None]
    fields: tuple[str, ...]

    def judge(self, record: FilterIn, params: FilterParams) -> Drop | None:
        """The drop of a record beyond it; ``None`` if it is not set or not broken."""
        limit = getattr(params, self.param)
        if limit is None:
            return None
        value = self.value(record, params)
        if value is None or value != value:
            return Drop(self.unstated, f"needed by {self.param}") if params.missing == "drop" else None
        is_beyond = value < limit if self.param.startswith("min") else value > limit
        return Drop(self.reason, f"{value:g}; {self.param} is {limit:g}") if is_beyond else None


def _similarity(record: FilterIn, params: FilterParams) -> float | None:
    """Source of 2.5: Hessel et al. 2021, "CLIPScore", equation 1."""
    if record.similarity is None or params.similarity_scale == "cosine":
        return record.similarity
    return 2.5 * max(record.similarity, 0)


def _short_side(record: FilterIn, params: FilterParams) -> float | None:
    if record.stated_width is None or record.stated_height is None:
        return None
    return min(record.stated_width, record.stated_height)


def _aspect(record: FilterIn, params: FilterParams) -> float | None:
    if not record.stated_width or not record.stated_height:
        return None
    return max(record.stated_width, record.stated_height) / min(record.stated_width, record.stated_height)


BOUNDS = (
    Bound("min_aesthetic", "low_aesthetic", "no_aesthetic", lambda record, _: record.aesthetic, ("aesthetic",)),
    Bound("min_similarity", "low_similarity", "no_similarity", _similarity, ("similarity",)),
    Bound("max_watermark", "watermark", "no_watermark_score", lambda record, _: record.watermark, ("watermark",)),
    Bound("max_nsfw", "nsfw", "no_nsfw_score", lambda record, _: record.nsfw, ("nsfw",)),
    Bound("min_width", "stated_too_small", "no_stated_size", lambda record, _: record.stated_width, _SIZE[:1]),
    Bound("min_height", "stated_too_small", "no_stated_size", lambda record, _: record.stated_height, _SIZE[1:]),
    Bound("min_side", "stated_too_small", "no_stated_size", _short_side, _SIZE),
    Bound("max_aspect", "stated_extreme_aspect", "no_stated_size", _aspect, _SIZE),
)
"""In this order; the first that is broken gives the reason."""


class Filter(Stage[FilterIn, FilterOut]):
    """Drop records that the metadata says are unfit: small, plain, badly matched, watermarked, unsafe."""

    In, Out, Params = FilterIn, FilterOut, FilterParams
    reasons: ClassVar[Mapping[str, str]] = {
        "low_aesthetic": "The stated aesthetic score is below `min_aesthetic`.",
        "low_similarity": "The stated similarity of picture and text is below `min_similarity`.",
        "watermark": "The stated probability of a watermark is above `max_watermark`.",
        "nsfw": "The stated probability of being unsafe is above `max_nsfw`.",
        "stated_too_small": "The stated size is below `min_width`, `min_height` or `min_side`.",
        "stated_extreme_aspect": "The stated longer by shorter side is above `max_aspect`.",
        "no_aesthetic": "The metadata states no aesthetic score.",
        "no_similarity": "The metadata states no similarity.",
        "no_watermark_score": "The metadata states no probability of a watermark.",
        "no_nsfw_score": "The metadata states no probability of being unsafe.",
        "no_stated_size": "The metadata states no size.",
    }

    def __init__(self, params: FilterParams) -> None:
        self.params = params

    @override
    @classmethod
    def load(cls, params: FilterParams, context: Context) -> "Filter":
        return cls(params)

    @override
    @classmethod
    def lives_on(cls, params: FilterParams) -> Mapping[str, str]:
        bounds = [bound for bound in BOUNDS if getattr(params, bound.param) is not None and params.missing == "drop"]
        return {field: f"leave {bound.param} out, or set missing: keep" for bound in bounds for field in bound.fields}

    @override
    def process(self, batch: Sequence[FilterIn]) -> list[FilterOut | Drop | Fail]:
        return [self._judge(record) for record in batch]

    def _judge(self, record: FilterIn) -> FilterOut | Drop:
        found = (bound.judge(record, self.params) for bound in BOUNDS)
        return next(filter(None, found), FilterOut())
