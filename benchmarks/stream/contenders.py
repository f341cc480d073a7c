"""Who takes part: each loader's environment, its module, and the form in which it reads the data."""

from dataclasses import dataclass

from benchmarks.stream.environments import Environment

NUMPY = "numpy==2.4.6"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A loader.

    Attributes:
        name: In the table.
        environment: It runs in.
        module: In ``benchmarks.stream.loaders``.
        data: ``shards``: it reads the folder of tars; ``run``: the run's; else the name of a converted folder.
        decoders: It can decode with.
        options: More words for its command.
    """

    name: str
    environment: Environment
    module: str
    data: str = "shards"
    decoders: tuple[str, ...] = ("pil", "simplejpeg")
    options: tuple[str, ...] = ()


_WEBDATASET = Environment("webdataset", (NUMPY, "webdataset==1.0.2"))
_OURS = Environment("inlay", ())

LIMIT = Contender(name="decode-only limit", environment=_WEBDATASET, module="limit")

CONTENDERS: dict[str, Contender] = {
    "limit": LIMIT,
    "webdataset": Contender(name="webdataset 1.0.2", environment=_WEBDATASET, module="webdataset_processes"),
    "torchdata": Contender(
        name="torchdata.nodes 0.11.0, threads",
        environment=Environment("torchdata", (NUMPY, "torchdata==0.11.0", "webdataset==1.0.2")),
        module="torchdata_threads",
    ),
    "mosaicml": Contender(
        name="mosaicml-streaming 0.13.0 (own format)",
        environment=Environment("mosaicml", ("numpy==2.1.3", "torchvision==0.28.0", "mosaicml-streaming==0.13.0")),
        module="mosaicml",
        data="mosaicml",
    ),
    "litdata": Contender(
        name="litData 0.2.76 (own format)",
        environment=Environment("litdata", (NUMPY, "litdata==0.2.76")),
        module="litdata_processes",
        data="litdata",
    ),
    "energon": Contender(
        name="Megatron-Energon 7.4.1",
        environment=Environment("energon", (NUMPY, "megatron-energon==7.4.1")),
        module="energon",
        data="energon",
    ),
    "inlay": Contender(name="Inlay", environment=_OURS, module="inlay", data="run", decoders=("simplejpeg",)),
    "inlay-no-crc": Contender(
        name="Inlay, checksums off",
        environment=_OURS,
        module="inlay",
        data="run",
        decoders=("simplejpeg",),
        options=("no-crc",),
    ),
}
"""By the name they are chosen by."""
