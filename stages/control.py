"""Control images: pictures derived from the whole image that say where things are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from manifests.record import Control, Picture
from stages.base import Context, Drop, Fail, ModelRef, Stage, record_rng
from stages.canny import CannyParams, canny
from stages.pixels import Gray, read_picture, write_png
from stages.sketch import SketchParams, dodge_sketch

if TYPE_CHECKING:
    from stages.models.drawer import Drawer


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


class ControlParams(CannyParams, SketchParams):
    """What a manifest may set on ``control``: Canny's and the sketch's own settings, and a network's."""

    kind: Literal["canny", "depth", "sketch"] = Field(
        "canny", description="Which control image: edges, depth by a network, or a sketch by a network or without."
    )
    model: str | None = Field(
        None,
        description="depth: hub id or folder of a DPT or Depth Anything; sketch: PiDiNet's checkpoint file, or none.",
    )
    revision: str | None = Field(None, description="Commit or tag of a hub id; needed with one.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Type that the network computes in; auto is bfloat16 on GPUs, float32 on CPUs."
    )
    images_per_call: int = Field(
        4,
        ge=1,
        le=1024,
        description="Pictures of one size a network takes at once; calls with fewer are filled up, so that all are "
        "alike. 1 wastes nothing where sizes vary.",
    )

    @model_validator(mode="after")
    def _model_where_needed(self) -> Self:
        if self.kind == "depth" and self.model is None:
            raise ValueError("kind 'depth' needs a model")
        if self.kind == "canny" and self.model is not None:
            raise ValueError("kind 'canny' takes no model")
        return self


class MakeControl(Stage[ControlIn, ControlOut]):
    """Add a control image of one kind, in place of an earlier one of that kind.

    All are of the image's size, gray, and bright where there is something: edges and strokes, or, in depth, what is
    near.
    """

    In, Out, Params = ControlIn, ControlOut, ControlParams
    reasons: ClassVar[Mapping[str, str]] = {
        "no_map": "The network's answer is no number somewhere, or the same depth everywhere."
    }

    def __init__(self, params: ControlParams, seed: int, drawer: "Drawer | None" = None) -> None:
        self.params = params
        self.seed = seed
        self._drawer = drawer

    @override
    @classmethod
    def load(cls, params: ControlParams, context: Context) -> Self:
        return cls(params, context.seed, _load(params, context.device) if params.model else None)

    @override
    @classmethod
    def wants(cls, params: ControlParams) -> tuple[ModelRef, ...]:
        return (ModelRef(name=params.model, revision=params.revision),) if params.model else ()

    @override
    def process(self, batch: Sequence[ControlIn]) -> list[ControlOut | Drop | Fail]:
        drawn: Sequence[Gray | None]
        if self._drawer:
            drawn = self._drawer([read_picture(record.image) for record in batch])
        else:
            drawn = [self._draw(record) for record in batch]
        return [self._out(record, picture) for record, picture in zip(batch, drawn, strict=True)]

    def _draw(self, record: ControlIn) -> Gray:
        image = read_picture(record.image)
        if self.params.kind == "sketch":
            return dodge_sketch(image, self.params.stroke)
        return canny(image, *self.params.draw_thresholds(record_rng(self.seed, record.key, "control canny")))

    def _out(self, record: ControlIn, drawn: Gray | None) -> ControlOut | Fail:
        kind = self.params.kind
        if drawn is None:
            return Fail("no_map", f"the {kind} of {self.params.model} is no number somewhere, or the same everywhere")
        made = Control(kind=kind, picture=write_png(drawn))
        return ControlOut(controls=(*(c for c in record.controls if c.kind != kind), made))


def _load(params: ControlParams, device: str) -> "Drawer":
    import torch

    from stages.models.drawer import BatchDrawer, Network
    from stages.models.memory import CallSize

    network: Network
    ref = ModelRef(name=params.model, revision=params.revision)
    if params.kind == "depth":
        from stages.models.depth import load_depth

        network = load_depth(ref, device)
    else:
        from stages.models.pidinet import load_pidinet

        network = load_pidinet(ref, device)
    is_short = params.precision == "bfloat16" or (params.precision == "auto" and device == "cuda")
    return BatchDrawer(
        network=network,
        device=device,
        precision=torch.bfloat16 if is_short else torch.float32,
        calls=CallSize(params.images_per_call, "images_per_call"),
    )
