"""Control images: pictures derived from the whole image that say where things are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self, TypeAlias

import cv2
import numpy as np
from pydantic import Field, model_validator
from typing_extensions import override

from manifests.record import Control, Picture
from stages.base import Context, Drop, Fail, Params, Stage, record_rng
from stages.pixels import Gray, Pixels, read_picture, write_png


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlIn:
    """What ``control`` reads."""

    key: str
    image: Picture
    controls: tuple[Control, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlOut:
    """What ``control`` writes."""

    controls: tuple[Control, ...]


Strength = Annotated[float, Field(ge=0, le=2040)]
Threshold: TypeAlias = Strength | tuple[Strength, Strength]


class ControlParams(Params):
    """What a manifest may set on ``control``. MUMU gives no thresholds; the ranges are ours, wide enough to vary."""

    kind: Literal["canny"] = Field("canny", description="Which control image.")
    low: Threshold = Field(
        (50, 150),
        description="Gradient above which an edge goes on: a number, or [least, most] to draw from per image.",
    )
    high: Threshold = Field((150, 250), description="Gradient above which an edge starts: a number, or [least, most].")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        (low, low_most), (high, high_most) = ends(self.low), ends(self.high)
        if not (low <= low_most <= high <= high_most):
            raise ValueError(f"thresholds must rise, low before high, got low {self.low} and high {self.high}")
        return self


def ends(threshold: Threshold) -> tuple[float, float]:
    """The least and the most a threshold may be."""
    return threshold if isinstance(threshold, tuple) else (threshold, threshold)


class MakeControl(Stage[ControlIn, ControlOut]):
    """Add a control image of one kind, in place of an earlier one of that kind."""

    In, Out, Params = ControlIn, ControlOut, ControlParams

    def __init__(self, params: ControlParams, seed: int) -> None:
        self.params = params
        self.seed = seed

    @override
    @classmethod
    def load(cls, params: ControlParams, context: Context) -> Self:
        return cls(params, context.seed)

    @override
    def process(self, batch: Sequence[ControlIn]) -> list[ControlOut | Drop | Fail]:
        return [self._control(record) for record in batch]

    def _control(self, record: ControlIn) -> ControlOut:
        kind = self.params.kind
        rng = record_rng(self.seed, record.key, f"control {kind}")
        low, high = rng.uniform(*ends(self.params.low)), rng.uniform(*ends(self.params.high))
        made = Control(kind=kind, picture=write_png(canny(read_picture(record.image), low, high)))
        return ControlOut(controls=(*(c for c in record.controls if c.kind != kind), made))


def canny(image: Pixels, low: float, high: float) -> Gray:
    """Edges of an RGB image: 255 on an edge, else 0.

    Args:
        image: RGB.
        low: Gradient (L1 norm of 3 x 3 Sobel, 0 to 2040) above which an edge goes on.
        high: Gradient above which an edge starts.

    Source: Canny 1986, "A Computational Approach to Edge Detection".
    """
    return np.asarray(cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), low, high), np.uint8)
