"""Typed maps over batches of records. Stages know no Ray and import heavy packages only when loaded."""

from collections.abc import Mapping
from typing import Any

from stages.base import Stage
from stages.beside import Beside
from stages.caption import Caption
from stages.control import MakeControl
from stages.crop import Crop
from stages.decode import Decode
from stages.dedup import Dedup
from stages.describe import Describe
from stages.draw import Draw
from stages.embed import Embed
from stages.faces import Faces
from stages.fetch import Fetch
from stages.filter import Filter
from stages.ground import Ground
from stages.heads import Heads
from stages.interleave import Interleave
from stages.phrases import Phrases
from stages.recaption import Recaption
from stages.reframe import Reframe
from stages.regions import Regions
from stages.score import GiveScore
from stages.segment import Segment
from stages.select import Select

STAGES: Mapping[str, type[Stage[Any, Any]]] = {
    "filter": Filter,
    "fetch": Fetch,
    "draw": Draw,
    "decode": Decode,
    "dedup": Dedup,
    "score": GiveScore,
    "caption": Caption,
    "recaption": Recaption,
    "describe": Describe,
    "phrases": Phrases,
    "ground": Ground,
    "segment": Segment,
    "select": Select,
    "crop": Crop,
    "faces": Faces,
    "reframe": Reframe,
    "heads": Heads,
    "control": MakeControl,
    "regions": Regions,
    "interleave": Interleave,
    "beside": Beside,
    "embed": Embed,
}
"""Every stage a manifest may name. To add one: a file here, an entry here, its new fields in ``Record``, a test."""
