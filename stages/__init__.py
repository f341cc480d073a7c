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
from stages.embed import Embed
from stages.fetch import Fetch
from stages.ground import Ground
from stages.interleave import Interleave
from stages.phrases import Phrases
from stages.segment import Segment
from stages.select import Select

STAGES: Mapping[str, type[Stage[Any, Any]]] = {
    "fetch": Fetch,
    "decode": Decode,
    "dedup": Dedup,
    "caption": Caption,
    "phrases": Phrases,
    "ground": Ground,
    "segment": Segment,
    "select": Select,
    "crop": Crop,
    "control": MakeControl,
    "interleave": Interleave,
    "beside": Beside,
    "embed": Embed,
}
"""Every stage a manifest may name. To add one: a file here, an entry here, its new fields in ``Record``, a test."""
