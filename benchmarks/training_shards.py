"""Shards of made-up features at a recipe's real dimensions: what ``benchmarks.training_step --data`` reads.

``python -m benchmarks.training_shards build/features --samples 8192`` writes what the engine writes of
``manifests/lambda_eclipse.yaml``, in bytes and in members, but for what the numbers are.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from benchmarks.stream.data import Size, make_record, noises, write_run
from manifests.record import Control, Feature, ModelUse, Picture, Record
from stages.features import content_hash, pack
from stages.pixels import read_picture, write_png
from training.encoders.clip import load_clip_tokenizer
from training.families.lambda_eclipse import LambdaEclipseConfig
from training.recipes import RECIPES
from training.weights import Weights

_UNIT = 256
"""Samples of a shard."""


@dataclass(frozen=True, slots=True)
class Featured:
    """Gives records the features that a network would make of them."""

    network: str
    dim: int
    model: ModelUse

    def __call__(self, record: Record) -> Record:
        """The record with edges as a control, and with features of caption, target, subjects and control."""
        assert record.caption and record.image and record.subjects
        tokens = len(load_clip_tokenizer(Weights(name="stages/data/shapes_clip"))(record.caption).input_ids)
        vectors = ("image", "canny", *(f"subject{number}" for number in range(len(record.subjects))))
        shapes: dict[str, tuple[int, ...]] = {f"{name}_{self.network}_vector": (self.dim,) for name in vectors}
        shapes[f"caption_{self.network}_pooled"] = (self.dim,)
        shapes[f"caption_{self.network}_states"] = (tokens, self.dim)
        edges = Control(kind="canny", picture=write_png(cv2.Canny(read_picture(record.image), 100, 200)))
        rng = np.random.default_rng(record.row)
        given: dict[str, str | Picture] = {"caption": record.caption, "image": record.image, "canny": edges.picture}
        given |= {f"subject{number}": subject.crop for number, subject in enumerate(record.subjects) if subject.crop}
        contents = {name: content_hash(given[name.partition("_")[0]]) for name in shapes}
        features = tuple(self._feature(rng, name, contents[name], shape) for name, shape in shapes.items())
        return replace(record, controls=(edges,), features=features)

    def _feature(self, rng: np.random.Generator, name: str, content: str, shape: tuple[int, ...]) -> Feature:
        values = rng.standard_normal(shape, np.float32)
        return pack(name, content, self.model, values, "float16")


def main(
    out: Annotated[Path, typer.Argument(help="Folder for the shards; another run in it is replaced")],
    recipe: Annotated[str, typer.Option(help="A recipe that learns from features")] = "lambda_eclipse",
    samples: Annotated[int, typer.Option(min=_UNIT, help="Rounded down to whole shards of 256")] = 8192,
) -> None:
    """Write them."""
    chosen = RECIPES[recipe]()
    family = chosen.family
    if not isinstance(family, LambdaEclipseConfig):
        raise typer.BadParameter(f"{recipe} does not learn from features", param_hint="--recipe")
    wanted = chosen.stream.feature_model
    model = ModelUse(name=wanted if isinstance(wanted, str) else family.clip.name, revision="made-up")
    featured, pictures = Featured(family.network, family.prior.dim, model), noises()
    size = Size(shards=samples // _UNIT, samples=_UNIT)
    write_run(out, size, f"features of {recipe}", lambda number: featured(make_record(number, pictures)))


if __name__ == "__main__":
    typer.run(main)
