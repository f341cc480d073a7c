"""Drawn scenes of the shapes world: a row is a scene, and a unit's scenes are drawn where it is read.

The one part's digest is that of the settings, of the photographs, and of the first scene as drawn: a world that draws
otherwise gives other keys.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from manifests import dag
from manifests.record import Annotation, Row
from pipeline.sources.base import Part, Source, SourceError, Unit
from pipeline.sources.paths import File, expand
from pipeline.sources.rows import changed, make_row, with_original
from stages.masks import encode_mask
from stages.pixels import ImageError, Pixels, open_image, resize, write_png
from stages.shapes.draw import Drawn, draw
from stages.shapes.grammar import caption, mentions
from stages.shapes.scene import Scene, SceneSettings, make_scene

_PHOTOGRAPHS = 0.25
"""Share of the scenes that have a photograph as backdrop, where there are any."""
_PHOTOGRAPH_SIDE = 512
_MAX_PIXELS = 100_000_000


class Shapes(Source):
    """Scenes of consecutive seeds, as PNG pictures."""

    def __init__(self, config: dag.ShapesSource) -> None:
        self._config = config
        self._files = tuple(expand(config.photographs)) if config.photographs else ()
        self._settings = SceneSettings(max_things=config.max_things, photographs=_PHOTOGRAPHS if self._files else 0.0)
        self._contents = _digest(self._files)
        _photographs(self._files, self._contents)
        self.parts = (Part("shapes", config.scenes, self._world()),)
        said = {"alt_text": config.captions, "annotations": config.annotations}
        self.gives = frozenset(
            {"source_id", "original", "sha256"} | {name for name, is_said in said.items() if is_said}
        )

    def read(self, unit: Unit) -> list[Row]:
        """The unit's rows, drawn.

        Raises:
            SourceError: If a photograph is no longer what was planned.
        """
        photographs = _photographs(self._files, self._contents)
        return [self._row(number, photographs) for number in range(unit.start, unit.stop)]

    def _world(self) -> str:
        settings = self._config.model_dump_json(include={"seed", "max_things", "captions", "annotations"})
        plain = replace(self._settings, photographs=0.0)
        first = draw(make_scene(self._config.seed, plain)).pixels.tobytes()
        return hashlib.sha256(f"{settings}\0{self._contents}\0".encode() + first).hexdigest()

    def _row(self, number: int, photographs: Sequence[Pixels]) -> Row:
        seed = self._config.seed + number
        scene = make_scene(seed, self._settings)
        drawn = draw(scene, photographs)
        values = {"source_id": seed, "alt_text": caption(scene) if self._config.captions else None}
        row = with_original(make_row(self.parts[0], number, values), write_png(drawn.pixels).data)
        if not self._config.annotations:
            return row
        return replace(row, record=replace(row.record, annotations=self._annotations(scene, drawn)))

    def _annotations(self, scene: Scene, drawn: Drawn) -> tuple[Annotation, ...]:
        """The things as the caption names them; with a place in it only if the record has it."""
        return tuple(
            Annotation(
                phrase=mention.phrase,
                span=mention.span if self._config.captions else None,
                x0=drawn.boxes[mention.thing].x0 / scene.width,
                y0=drawn.boxes[mention.thing].y0 / scene.height,
                x1=drawn.boxes[mention.thing].x1 / scene.width,
                y1=drawn.boxes[mention.thing].y1 / scene.height,
                mask=encode_mask(drawn.masks[mention.thing]),
            )
            for mention in mentions(scene)
        )


def _read(file: File) -> bytes:
    try:
        with file.open() as opened:
            data: bytes = opened.read()
    except OSError as error:
        raise SourceError(f"{file.name}: cannot be read: {error}") from None
    return data


def _digest(files: Sequence[File]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(_read(file)).digest() for file in files)).hexdigest()


@lru_cache(maxsize=1)
def _photographs(files: tuple[File, ...], contents: str) -> tuple[Pixels, ...]:
    """The photographs, shrunk to what scenes need and kept for the next unit.

    Raises:
        SourceError: If one is no picture, or they are no longer what was planned.
    """
    if _digest(files) != contents:
        raise changed(Path(files[0].name))
    return tuple(_photograph(file) for file in files)


def _photograph(file: File) -> Pixels:
    try:
        pixels = open_image(_read(file), _MAX_PIXELS)
    except ImageError as error:
        raise SourceError(f"{file.name}: no photograph to put scenes on: {error}") from None
    height, width = pixels.shape[:2]
    share = min(_PHOTOGRAPH_SIDE / min(height, width), 1.0)
    return resize(pixels, max(round(width * share), 1), max(round(height * share), 1))
