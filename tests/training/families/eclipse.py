"""Shards that a prior learns from: drawn records with the bundled CLIP's own features."""

from dataclasses import replace
from pathlib import Path

import torch

from manifests.record import Feature, ModelUse, Picture, Record
from stages.features import content_hash, pack
from tests.training.stream.make import draw_record
from tests.training.stream.runs import write_unit
from training.encoders.clip import Clip, load_clip, load_clip_tokenizer
from training.modules.overwrite import tokenise
from training.stream.pixels import decode, read_header
from training.weights import Weights

CLIP = Weights(name="stages/data/shapes_clip")


def write_features(folder: Path) -> None:
    """Eight samples of two subjects."""
    clip = load_clip(CLIP)
    write_unit(folder, 0, [_with_features(draw_record(f"drawn_{n}", subjects=2), clip) for n in range(8)])


def _with_features(record: Record, clip: Clip) -> Record:
    """The record with the bundled CLIP's own features of its caption, picture and subjects."""
    assert record.caption is not None and record.image is not None and record.subjects is not None
    crops = {f"subject{n}": subject.crop for n, subject in enumerate(record.subjects)}
    pictures = {name: picture for name, picture in {"image": record.image, **crops}.items() if picture is not None}
    pixels = [torch.from_numpy(decode(each.data, read_header(each.data, "it"), "it")) for each in pictures.values()]
    (text,) = tokenise(load_clip_tokenizer(CLIP), [record.caption], 32)
    told = clip.read([text])
    values = {f"{name}_clip_vector": vector for name, vector in zip(pictures, clip.see(pixels), strict=True)}
    values |= {"caption_clip_states": told.states[0], "caption_clip_pooled": told.pooled[0]}
    of: dict[str, str | Picture] = {"caption": record.caption, **pictures}
    features = (_feature(name, of[name.partition("_")[0]], value) for name, value in values.items())
    return replace(record, features=tuple(features))


def _feature(name: str, of: str | Picture, value: torch.Tensor) -> Feature:
    return pack(name, content_hash(of), ModelUse(name="shapes_clip", revision="1"), value.numpy(), "float32")
