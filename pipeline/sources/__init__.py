"""Where rows come from: metadata in Parquet, data sets in COCO's form, folders, tars, prompts to draw, drawn scenes.

A source is opened once, cheaply, on the driver (:func:`open_source`), pickled to workers, and read there unit by unit.
``base`` says what a source is; ``rows`` makes rows of raw values and says what rows fail for; ``columns`` knows
what web data sets call their columns. A new kind of source is one module here, one model in ``manifests.dag`` and one
entry in :data:`SOURCES`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from manifests import dag
from pipeline.sources.base import Source
from pipeline.sources.coco import Coco
from pipeline.sources.folder import Folder
from pipeline.sources.kept import Kept
from pipeline.sources.parquet import Parquet
from pipeline.sources.prompts import Prompts
from pipeline.sources.shapes import Shapes
from pipeline.sources.shards import Shards
from pipeline.sources.tars import Tars

SOURCES: Mapping[str, Callable[[Any], Source]] = {
    "parquet": Parquet,
    "coco": Coco,
    "folder": Folder,
    "webdataset": Tars,
    "shards": Shards,
    "prompts": Prompts,
    "shapes": Shapes,
}
"""Kind in the manifest -> what opens it."""


def open_source(source: dag.Source) -> Source:
    """The source a manifest describes.

    Raises:
        SourceError: If it cannot be read or has no rows, naming the file, the value and the remedy.
    """
    opened = SOURCES[source.kind](source)
    return Kept(opened, source.keep) if source.keep else opened
