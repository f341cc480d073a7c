"""Drawn scenes of the shapes world: a row is a scene, and a unit's scenes are drawn where it is read.

The one part's digest is that of the settings, of the photographs, and of the first scene as drawn: a world that draws
otherwise gives other keys.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from manifests import dag
from manifests.dag import ARRANGED_THINGS
from manifests.record import Annotation, Row
from pipeline.sources.base import Part, Source, SourceError, Unit
from pipeline.sources.paths import File, expand
from pipeline.sources.rows import changed, make_row, with_original
from stages.formats import ImageError
from stages.masks import encode_mask
from stages.pixels import Pixels, resize, write_png
from stages.shapes.arranged import ArrangedSettings, make_arranged, tell
from stages.shapes.draw import Drawn, draw
from stages.shapes.grammar import Mention, caption, mentions
from stages.shapes.scene import Scene, SceneSettings, make_scene
from stages.web_image import open_image

_PHOTOGRAPHS = 0.25
"""Share of the scenes that have a photograph as backdrop, where there are any."""
_PHOTOGRAPH_SIDE = 512
_MAX_PIXELS = 100_000_000


_SCATTERED = frozenset({"seed", "max_things", "captions", "annotations"})
_ARRANGED = frozenset({"layout", "says", "hold_out"})
"""Settings that make other rows: of all scenes, and of arranged ones as well."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A scene with what is said of it."""

    scene: Scene
    caption: str
    mentions: tuple[Mention, ...]


class Shapes(Source):
    """Scenes of consecutive seeds, as PNG pictures."""

    def __init__(self, config: dag.ShapesSource) -> None:
        self._config = config
        self._files = tuple(expand(config.photographs)) if config.photographs else ()
        self._is_arranged = config.layout == "arranged"
        self._arranged = ArrangedSettings(max_things=min(config.max_things, ARRANGED_THINGS), hold_out=config.hold_out)
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
        told = _SCATTERED | (_ARRANGED if self._is_arranged else frozenset())
        settings = self._config.model_dump_json(include=set(told))
        plain = replace(self._settings, photographs=0.0)
        first = draw(self._made(self._config.seed, plain).scene).pixels.tobytes()
        return hashlib.sha256(f"{settings}\0{self._contents}\0".encode() + first).hexdigest()

    def _row(self, number: int, photographs: Sequence[Pixels]) -> Row:
        seed = self._config.seed + number
        made = self._made(seed, self._settings)
        drawn = draw(made.scene, photographs)
        values = {"source_id": seed, "alt_text": made.caption if self._config.captions else None}
        row = with_original(make_row(self.parts[0], number, values), write_png(drawn.pixels).data)
        if not self._config.annotations:
            return row
        return replace(row, record=replace(row.record, annotations=self._annotations(made, drawn)))

    def _made(self, seed: int, settings: SceneSettings) -> "_Made":
        if not self._is_arranged:
            scene = make_scene(seed, settings)
            return _Made(scene, caption(scene), mentions(scene))
        arranged = make_arranged(seed, self._arranged)
        return _Made(arranged.scene, *tell(arranged, self._config.says))

    def _annotations(self, made: "_Made", drawn: Drawn) -> tuple[Annotation, ...]:
        """The things as the caption names them; with a place in it only if the record has it."""
        return tuple(
            Annotation(
                phrase=mention.phrase,
                span=mention.span if self._config.captions else None,
                x0=drawn.boxes[mention.thing].x0 / made.scene.width,
                y0=drawn.boxes[mention.thing].y0 / made.scene.height,
                x1=drawn.boxes[mention.thing].x1 / made.scene.width,
                y1=drawn.boxes[mention.thing].y1 / made.scene.height,
                mask=encode_mask(drawn.masks[mention.thing]),
            )
            for mention in made.mentions
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
