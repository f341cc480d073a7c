"""Caption and pictures without words of their own to a prompt with the pictures beside the text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, TypeAlias

from pydantic import Field
from typing_extensions import override

from manifests.prompt import ImageSegment, InterleavedPrompt, TextSegment
from manifests.record import Face, Region
from stages.base import Context, Drop, Fail, Params, Stage

Kind: TypeAlias = Literal["faces", "regions", "image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideIn:
    """What ``beside`` reads."""

    caption: str
    faces: tuple[Face, ...] | None
    regions: tuple[Region, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideOut:
    """What ``beside`` writes."""

    prompt: InterleavedPrompt


class BesideParams(Params):
    """What a manifest may set on ``beside``."""

    images: tuple[Kind, ...] = Field(
        ("regions",), min_length=1, description="Which pictures, in this order: faces, regions, the whole image."
    )
    max_images: int = Field(4, ge=1, description="Most pictures of each kind; the first ones stay.")


class Beside(Stage[BesideIn, BesideOut]):
    """Make a prompt of the caption with faces, regions or the whole picture beside it, as EMMA's conditions are.

    Source: Han et al. 2024, "EMMA", section 3: conditions are no part of the text's sequence.
    """

    In, Out, Params = BesideIn, BesideOut, BesideParams
    reasons: ClassVar[Mapping[str, str]] = {
        "nothing_beside": "The record has none of the pictures that should stand beside its text.",
        "not_looked_for": "No earlier step looked for faces or regions, which the prompt should have.",
    }

    def __init__(self, params: BesideParams) -> None:
        self.params = params

    @override
    @classmethod
    def load(cls, params: BesideParams, context: Context) -> Self:
        return cls(params)

    @override
    def process(self, batch: Sequence[BesideIn]) -> list[BesideOut | Drop | Fail]:
        return [self._beside(record) for record in batch]

    def _beside(self, record: BesideIn) -> BesideOut | Drop | Fail:
        found = {"faces": record.faces, "regions": record.regions}
        missing = [kind for kind in self.params.images if kind != "image" and found[kind] is None]
        if missing:
            return Fail("not_looked_for", f"put a {' and a '.join(missing)} node before this one")
        members = [name for kind in self.params.images for name in self._members(kind, found.get(kind))]
        if not members:
            return Drop("nothing_beside")
        images = [ImageSegment(name, "", "side") for name in members]
        return BesideOut(prompt=InterleavedPrompt((*images, TextSegment(record.caption))))

    def _members(self, kind: Kind, parts: Sequence[Face | Region] | None) -> list[str]:
        """Names in the shard of one kind's pictures that have been cut."""
        if kind == "image":
            return ["image"]
        cut = [number for number, part in enumerate(parts or ()) if part.crop]
        return [f"{kind.removesuffix('s')}{number}" for number in cut[: self.params.max_images]]
