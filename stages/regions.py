"""Parts of the picture that no words go with: boxes drawn at random, and the object it is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, model_validator
from typing_extensions import override

from manifests.record import Picture, Region, Subject
from stages.base import Context, Drop, Fail, Stage, record_rng
from stages.central import central_mask, grow_box, grow_unevenly
from stages.cutting import CutParams, cut, window_of
from stages.masks import BoolArray, encode_mask, pixels_box
from stages.random_box import BoxLimits

Share = Annotated[float, Field(gt=0, le=1)]
Aspect = Annotated[float, Field(ge=0.01, le=100)]
Outcome: TypeAlias = tuple[Region, ...] | Drop | Fail


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionsIn:
    """What ``regions`` reads; ``subjects`` for objects only."""

    key: str
    original: bytes
    original_width: int
    original_height: int
    image: Picture
    subjects: tuple[Subject, ...] | None
    regions: tuple[Region, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionsOut:
    """What ``regions`` writes."""

    regions: tuple[Region, ...]


class RegionsParams(CutParams):
    """What a manifest may set on ``regions``.

    EMMA gives no figures: neither for the regions of the same picture that its first stage is conditioned on (EMMA's
    blog, stage 1) nor for the several random masks that mark the central object (EMMA, section 4). All are ours.
    """

    kind: Literal["random", "object"] = Field(
        "random", description="Boxes anywhere, or masks that mark the object that the picture is about."
    )
    count: int = Field(4, ge=1, le=64, description="Regions of each picture.")
    area: tuple[Share, Share] = Field(
        (0.1, 0.5), description="random: least and most a region covers of the picture's area."
    )
    aspect: tuple[Aspect, Aspect] = Field((0.5, 2.0), description="random: least and most width / height.")
    spread: float = Field(
        0.25, ge=0, le=1, description="object: how far a mask reaches beyond the object, at most, in sides of its box."
    )
    box_share: float = Field(
        0.25, ge=0, le=1, description="object: share of the regions that are a box around the object, without a mask."
    )
    crop: bool = Field(True, description="Cut every region out of the original: along its mask, or the whole box.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ("area", "aspect"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name} is [least, most], got [{least:g}, {most:g}]")
        return self


class Regions(Stage[RegionsIn, RegionsOut]):
    """Mark regions of one kind, in place of earlier ones of that kind.

    ``random``: boxes of the same picture, for training on what needs no words. ``object``: of the subjects the one
    that covers most of the picture's middle, marked several times: each mask holds the whole object and reaches beyond
    it by a random, uneven margin, or is a box around it. So a generator sees what is meant and cannot rely on an exact
    outline. How the masks are made is our reading of EMMA, which says only that there are several and random.
    """

    In, Out, Params = RegionsIn, RegionsOut, RegionsParams
    reasons: ClassVar[Mapping[str, str]] = {
        "no_region_fits": "The picture is too thin for a region of the wanted area and aspect.",
        "no_object": "No subject has a mask with a pixel.",
        "no_subjects": "Objects are found among subjects, and nothing has looked for any.",
    }

    def __init__(self, params: RegionsParams, seed: int) -> None:
        self.params = params
        self.seed = seed

    @override
    @classmethod
    def load(cls, params: RegionsParams, context: Context) -> Self:
        return cls(params, context.seed)

    @override
    def process(self, batch: Sequence[RegionsIn]) -> list[RegionsOut | Drop | Fail]:
        return [self._out(record, self._find(record)) for record in batch]

    def _find(self, record: RegionsIn) -> Outcome:
        rng = record_rng(self.seed, record.key, f"regions {self.params.kind}")
        return self._draw(record, rng) if self.params.kind == "random" else self._mark(record, rng)

    def _draw(self, record: RegionsIn, rng: Random) -> Outcome:
        image, params = record.image, self.params
        limits = BoxLimits(width=image.width, height=image.height, area=params.area, aspect=params.aspect)
        if not limits.can_hold:
            return Drop("no_region_fits", f"{image.width} x {image.height} pixels")
        return tuple(Region(kind="random", box=limits.draw(rng)) for _ in range(params.count))

    def _mark(self, record: RegionsIn, rng: Random) -> Outcome:
        if record.subjects is None:
            return Fail("no_subjects", "put phrases, ground and segment nodes before regions, or set kind: random")
        found = central_mask([subject.mask for subject in record.subjects if subject.mask])
        if found is None:
            return Drop("no_object")
        return tuple(self._variant(found, rng) for _ in range(self.params.count))

    def _variant(self, pixels: BoolArray, rng: Random) -> Region:
        """One marking of the object."""
        box, spread = pixels_box(pixels), self.params.spread
        assert box, "central_mask gives none that is empty"
        if rng.random() < self.params.box_share:
            return Region(kind="object", box=grow_box(box, spread, pixels.shape, rng))
        grown = grow_unevenly(pixels, box, spread * max(box.x1 - box.x0, box.y1 - box.y0), rng)
        return Region(kind="object", box=pixels_box(grown) or box, mask=encode_mask(grown))

    def _out(self, record: RegionsIn, found: Outcome) -> RegionsOut | Drop | Fail:
        if not isinstance(found, tuple):
            return found
        if self.params.crop:
            found = tuple(self._with_crop(record, region) for region in found)
        others = [region for region in record.regions or () if region.kind != self.params.kind]
        return RegionsOut(regions=(*others, *found))

    def _with_crop(self, record: RegionsIn, region: Region) -> Region:
        return replace(region, crop=cut(record, window_of(record, region.box), self.params, region.mask))
