"""Outputs of frozen networks, kept for training: one node, one network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from manifests.record import Control, Face, Feature, ModelUse, Picture, Region, Subject
from stages.base import Context, Drop, Fail, ModelRef, Stage
from stages.embed_params import EmbedParams, Of
from stages.features import FaceIn, FeatureError, content_hash, pack
from stages.pixels import read_picture

Outputs: TypeAlias = Mapping[str, npt.NDArray[np.float32]]

Given: TypeAlias = str | Picture | FaceIn

T = TypeVar("T")


class Encoder(Protocol):
    """A network that is asked about texts; pictures, each with whether it is a crop; or faces, each with landmarks."""

    def __call__(self, given: Sequence[Any], /) -> Sequence[Outputs | None]:
        """The wanted outputs for each, in order; ``None`` for a text that is too long."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedIn:
    """What ``embed`` reads."""

    caption: str
    image: Picture
    subjects: tuple[Subject, ...] | None
    faces: tuple[Face, ...] | None
    regions: tuple[Region, ...] | None
    controls: tuple[Control, ...]
    features: tuple[Feature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOut:
    """What ``embed`` writes."""

    features: tuple[Feature, ...]


Part: TypeAlias = tuple[str, Given | None]
"""Something to embed, by the name its features begin with; ``None`` where the record should have it and has not."""


def _numbered(stem: str, parts: Sequence[T] | None, seen: Callable[[T], Given | None]) -> list[Part]:
    if parts is None:
        return [(f"{stem}s", None)]
    return [(f"{stem}{number}", seen(part)) for number, part in enumerate(parts)]


def _heads(record: EmbedIn) -> list[Part]:
    """Those that are there: not every subject is a person."""
    heads = _numbered("head", record.subjects, lambda subject: subject.head_crop)
    return [head for head in heads if head[1] or record.subjects is None]


def _aligned(record: EmbedIn) -> list[Part]:
    """Those with landmarks to align them by, in the whole image."""
    faces = _numbered("face", record.faces, lambda face: FaceIn(record.image, face.landmarks))
    return [face for face in faces if not isinstance(face[1], FaceIn) or face[1].can_be_aligned]


def _control(kind: str) -> Callable[[EmbedIn], list[Part]]:
    def find(record: EmbedIn) -> list[Part]:
        found = [control.picture for control in record.controls if control.kind == kind]
        return [(kind, found[0] if found else None)]

    return find


_PARTS: Mapping[Of, Callable[[EmbedIn], list[Part]]] = {
    "caption": lambda record: [("caption", record.caption)],
    "image": lambda record: [("image", record.image)],
    "subjects": lambda record: _numbered("subject", record.subjects, lambda subject: subject.crop),
    "heads": _heads,
    "faces": lambda record: _numbered("face", record.faces, lambda face: face.crop),
    "regions": lambda record: _numbered("region", record.regions, lambda region: region.crop),
    "canny": _control("canny"),
    "depth": _control("depth"),
    "sketch": _control("sketch"),
}
_CROPS = ("subject", "head", "face", "region")
"""What is cut out of the image: nothing more of it is to be lost."""


class Embed(Stage[EmbedIn, EmbedOut]):
    """Keep what a frozen network says of the caption or of pictures, as features named ``OF_NAME_OUTPUT``.

    Such as ``caption_clip_states``, ``subject0_clip_vector``, ``canny_clip_vector``, ``image_vae_latent``. Outputs by
    kind: ``states`` of a text, (token, channel); ``pooled``, the text as a vector in CLIP's space; ``vector``, the
    picture in the network's space, of length 1 from AdaFace only; ``tokens``, the class's and the patches',
    (token, channel); ``latent``, (channel, y, x), the posterior's mean (vae) or what is to be quantised (movq), not
    scaled.

    AdaFace is asked about faces by their landmarks in the image; those without five have no feature. A feature
    of the same name from the same model is replaced. On CPUs, a record's features are the same to the last bit however
    it was batched.
    """

    In, Out, Params = EmbedIn, EmbedOut, EmbedParams
    reasons: ClassVar[Mapping[str, str]] = {
        "caption_too_long_for_encoder": "The caption has more tokens than the text encoder takes.",
        "missing_input": "The record lacks the picture that should be embedded.",
        "name_taken": "The record has a feature of this name from another model.",
        "not_finite": "The network's output is no finite number, or too large for the type it is stored in.",
    }

    def __init__(self, params: EmbedParams, model: ModelUse, encoder: Encoder) -> None:
        self.params = params
        self._model = model
        self._encoder = encoder

    @override
    @classmethod
    def load(cls, params: EmbedParams, context: Context) -> Self:
        from stages.models.encoders import load_encoder

        return cls(params, feature_model(params), load_encoder(params, context.device))

    @override
    @classmethod
    def wants(cls, params: EmbedParams) -> tuple[ModelRef, ...]:
        return (params.ref,)

    @override
    def process(self, batch: Sequence[EmbedIn]) -> list[EmbedOut | Drop | Fail]:
        wanted = [_wanted(self._parts(record)) for record in batch]
        asked = [_seen(*part) for mine in wanted if not isinstance(mine, Fail) for part in mine]
        found = iter(self._encoder(asked))
        return [
            mine if isinstance(mine, Fail) else self._out(record, [(*part, next(found)) for part in mine])
            for record, mine in zip(batch, wanted, strict=True)
        ]

    def _parts(self, record: EmbedIn) -> list[Part]:
        if self.params.kind == "adaface":
            return _aligned(record)
        return [part for of in self.params.of for part in _PARTS[of](record)]

    def _out(self, record: EmbedIn, said: Sequence[tuple[str, Given, Outputs | None]]) -> EmbedOut | Drop | Fail:
        features = {feature.name: feature for feature in record.features}
        for stem, given, outputs in said:
            if outputs is None:
                return Drop("caption_too_long_for_encoder", f"{len(record.caption)} characters")
            content = content_hash(given)
            for output, values in outputs.items():
                name = f"{stem}_{self.params.name}_{output}"
                if name in features and features[name].model.name != self._model.name:
                    return Fail("name_taken", f"{name} is from {features[name].model.name}; set name to another")
                try:
                    features[name] = pack(name, content, self._model, values, self.params.dtype)
                except FeatureError as error:
                    return Fail("not_finite", str(error))
        return EmbedOut(features=tuple(features.values()))


def feature_model(params: EmbedParams) -> ModelUse:
    """The model that features of these parameters name: what a trainer holds them against.

    Raises:
        ValueError: If it is missing.
    """
    (use,) = Embed.models(params)
    folder = params.subfolder if params.ref.files else None
    return ModelUse(name=f"{use.name}/{folder}", revision=use.revision) if folder else use


def _wanted(parts: Sequence[Part]) -> list[tuple[str, Given]] | Fail:
    whole = [(name, given) for name, given in parts if given is not None]
    if len(whole) == len(parts):
        return whole
    names = ", ".join(name for name, given in parts if given is None)
    return Fail("missing_input", f"the record has no picture of {names}; put the node that makes it before this one")


def _seen(name: str, given: Given) -> Any:
    """What the encoder is given."""
    if isinstance(given, FaceIn):
        return read_picture(given.image), given.landmarks
    return (read_picture(given), name.startswith(_CROPS)) if isinstance(given, Picture) else given
