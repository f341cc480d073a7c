"""What a manifest may set on ``embed``: which network, of what, and how the outcome is stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import Field, model_validator

from stages.base import ModelRef, Params
from stages.features import Storage
from stages.models.weights import OPEN_CLIP_FILES

Kind: TypeAlias = Literal["clip_text", "clip_image", "t5", "dino", "adaface", "vae", "movq"]
Of: TypeAlias = Literal["caption", "image", "subjects", "heads", "faces", "regions", "canny", "depth", "sketch"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]
Output: TypeAlias = Literal["states", "pooled", "vector", "tokens", "latent"]

ADAFACE_SIZES = ("ir18", "ir34", "ir50", "ir101")

_CLIP = frozenset({"library", "architecture", "layer"})
_TEXT = frozenset({"max_length", "long_captions", "padding"})
_SQUARE = frozenset({"fit", "fill"})
_LATENT = frozenset({"side", "multiple", "buckets"})


_PICTURES: tuple[Of, ...] = get_args(Of)[1:]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of network.

    Attributes:
        name: In its features' names.
        takes: What it may be asked about, the usual first.
        outputs: Those it has, the usual first.
        usual: How many of those are usual.
        heeds: Parameters that only some kinds have.
    """

    name: str
    takes: tuple[Of, ...]
    outputs: tuple[Output, ...]
    usual: int
    heeds: frozenset[str]


_KINDS: Mapping[Kind, _Kind] = {
    "clip_text": _Kind("clip", ("caption",), ("states", "pooled"), 2, _CLIP | _TEXT),
    "clip_image": _Kind("clip", _PICTURES, ("vector", "tokens"), 1, _CLIP | _SQUARE),
    "t5": _Kind("t5", ("caption",), ("states",), 1, _TEXT),
    "dino": _Kind("dino", _PICTURES, ("vector", "tokens"), 1, _SQUARE),
    "adaface": _Kind("adaface", ("faces",), ("vector",), 1, frozenset({"architecture"})),
    "vae": _Kind("vae", _PICTURES, ("latent",), 1, _LATENT),
    "movq": _Kind("movq", _PICTURES, ("latent",), 1, _LATENT),
}
_OF_SOME = _CLIP | _TEXT | _SQUARE | _LATENT

Channel = Annotated[int, Field(ge=0, le=255)]
Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class EmbedParams(Params):
    """What a manifest may set on ``embed``."""

    kind: Kind = Field("clip_text", description="What kind of network it is.")
    library: Literal["transformers", "open_clip"] = Field("transformers", description="Whose form a CLIP has.")
    model: str | None = Field(None, description="Folder, hub id or, of open_clip, checkpoint file.")
    revision: str | None = Field(None, description="Commit or tag of a hub id; needed with one.")
    subfolder: str | None = Field(None, description="Folder that the network is in, such as vae or movq of a pipeline.")
    architecture: str | None = Field(
        None, description="Of a checkpoint file: open_clip's name, or AdaFace's size: ir18, ir34, ir50, ir101."
    )
    of: tuple[Of, ...] = Field(
        (), description="What is embedded: caption (texts); image, crops or controls. Empty: caption, or image."
    )
    outputs: tuple[Output, ...] = Field(
        (),
        description="states, pooled (clip_text), states (t5), vector, tokens (clip_image, dino), latent (vae, movq). "
        "Empty: all of texts, the vector of pictures.",
    )
    name: str = Field(
        "",
        pattern=r"^([a-z][a-z0-9_]*)?$",
        description="Middle of the features' names. Empty: clip, t5, dino, adaface, vae or movq.",
    )
    layer: int = Field(
        -1, le=-1, ge=-1000, description="Layer of a CLIP's states and tokens, from the end: -1 the last."
    )
    max_length: int | None = Field(None, ge=2, description="Most tokens of a text; unset: 77 for CLIP, 128 for T5.")
    long_captions: Literal["drop", "truncate"] = Field(
        "drop", description="What becomes of records whose caption has more tokens: none is cut unless so told."
    )
    padding: bool = Field(False, description="Keep the states of padding too, so that all have max_length rows.")
    fit: Literal["auto", "own", "pad"] = Field(
        "auto",
        description="own: preprocess as the network's own does, which may cut edges off; pad: the whole picture on a "
        "plain square; auto: pad crops (subjects, heads, faces, regions), own for the rest.",
    )
    fill: tuple[Channel, Channel, Channel] = Field((255, 255, 255), description="RGB of the plain square.")
    side: int = Field(512, ge=8, le=8192, description="Of latents: the square bucket's side in pixels.")
    multiple: int = Field(64, ge=1, le=1024, description="Of latents: what widths and heights are divisible by.")
    buckets: tuple[Ratio, ...] = Field(
        (0.5, 0.75, 1.0, 1.5, 2.0),
        min_length=1,
        description="Of latents: aspect buckets, width / height, as the sink's.",
    )
    dtype: Storage = Field("float16", description="Type that features are stored in.")
    precision: Precision = Field(
        "auto",
        description="Type it calculates in; auto is bfloat16 on GPUs (but for latents, which would lose detail), "
        "float32 on CPUs.",
    )
    per_call: int | None = Field(
        None, ge=1, le=4096, description="Texts or pictures the network takes at once; unset: 16 on GPUs, 1 on CPUs."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_usual(cls, values: Any) -> Any:
        """Fill in what the kind decides, where it is not set."""
        kinds = [
            kind
            for name, kind in _KINDS.items()
            if isinstance(values, dict) and name == values.get("kind", "clip_text")
        ]
        if not kinds:
            return values
        (kind,) = kinds
        usual = {"name": kind.name, "of": kind.takes[:1], "outputs": kind.outputs[: kind.usual]}
        return {**values, **{name: value for name, value in usual.items() if not values.get(name)}}

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        kind = _KINDS[self.kind]
        fields = type(self).model_fields
        if idle := [name for name in sorted(_OF_SOME - kind.heeds) if getattr(self, name) != fields[name].default]:
            raise ValueError(f"kind {self.kind!r} heeds no {', '.join(idle)}")
        for what, given, known in (("outputs", self.outputs, kind.outputs), ("of", self.of, kind.takes)):
            if wrong := sorted(set(given) - set(known)):
                raise ValueError(f"kind {self.kind!r} has no {', '.join(wrong)}: {what} may be {', '.join(known)}")
        if self.architecture and self.kind.startswith("clip") and self.library != "open_clip":
            raise ValueError("architecture goes with library open_clip")
        if self.kind == "adaface" and self.architecture not in ADAFACE_SIZES:
            raise ValueError(f"kind 'adaface' needs architecture: {', '.join(ADAFACE_SIZES)}")
        return self

    @property
    def ref(self) -> ModelRef:
        """The network: of a pipeline on the hub, the files of its folder alone."""
        if not self.subfolder:
            files = OPEN_CLIP_FILES if self.library == "open_clip" else ()
            return ModelRef(name=self.model, revision=self.revision, files=files)
        if self.model and Path(self.model).exists():
            return ModelRef(name=f"{self.model}/{self.subfolder}")
        return ModelRef(name=self.model, revision=self.revision, files=(f"{self.subfolder}/*",))
