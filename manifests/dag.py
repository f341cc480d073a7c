"""What a DAG manifest may say, and its first validation: form, without knowing any stage."""

import difflib
import graphlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from manifests.yaml_text import MAX_BYTES, YamlError, load_yaml

NodeId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
Amount = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]


class ManifestError(ValueError):
    """A manifest that cannot run; the message names the file, the place, the value and what would be right."""


class _MisplacedError(ValueError):
    """What only the whole manifest shows to be wrong, with the place that it is wrong at."""

    def __init__(self, message: str, loc: tuple[int | str, ...]) -> None:
        super().__init__(message)
        self.loc = loc


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Source(_Model):
    keep: tuple[str, ...] = Field(
        (),
        description="Keep-lists from `python -m pipeline dedup`, files or URLs: rows that they name as duplicates are "
        "dropped before anything else is done.",
    )
    read_deadline_s: float = Field(
        1800, gt=0, le=1_000_000, description="Seconds after which reading a unit is taken for hung; the run ends then."
    )


class _Paths(_Source):
    paths: list[str] = Field(min_length=1, description="Files or glob patterns, relative to where the command runs.")
    unit_rows: int = Field(256, ge=1, le=100_000, description="Rows a unit: the grain of work, commit and resume.")


class ParquetSource(_Paths):
    """Metadata rows with URLs: LAION, COYO, GRIT, or any Parquet with a URL and a text column."""

    kind: Literal["parquet"]
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Record field -> column name, where the usual names (URL, TEXT, WIDTH, …) don't fit.",
    )


class CocoSource(_Source):
    """A COCO-format data set: captions, boxes and masks in JSON beside a folder of images."""

    kind: Literal["coco"]
    images: str = Field(description="Folder of the images, or URL of one.")
    captions: str = Field(description="COCO captions JSON; one record a caption chosen by `captions_per_image`.")
    instances: str | None = Field(None, description="COCO instances JSON: boxes and masks.")
    keypoints: str | None = Field(
        None,
        description="COCO person keypoints JSON: people's boxes, masks and keypoints, in place of the same objects.",
    )
    captions_per_image: int = Field(1, ge=1, le=10, description="How many captions of an image become records.")
    unit_rows: int = Field(256, ge=1, le=100_000, description="Rows a unit.")


class FolderSource(_Source):
    """A folder of images, each with a caption in a .txt of the same name, or all in one JSONL file."""

    kind: Literal["folder"]
    path: str = Field(description="Folder, or URL of one, read recursively.")
    captions: str | None = Field(None, description='JSONL with {"file": …, "caption": …}; without it NAME.txt is read.')
    groups: bool = Field(False, description="Images of one sub-folder are a group: they may show the same identity.")
    unit_rows: int = Field(256, ge=1, le=100_000, description="Rows a unit.")


class WebDatasetSource(_Paths):
    """Existing WebDataset tars, such as img2dataset writes: an image, a .txt and a .json a key."""

    kind: Literal["webdataset"]


class PromptsSource(_Source):
    """Pictures yet to be drawn: prompts of contents times styles, each content in several styles (MUMU, section 3)."""

    kind: Literal["prompts"]
    contents: str = Field(description='What pictures show: a text a line, or JSONL of {"text": …} by its suffix.')
    styles: str = Field(description="How they look, likewise.")
    styles_per_content: int = Field(4, ge=1, le=10_000, description="Different styles that each content is drawn in.")
    template: str = Field("{content}, {style}", description="The prompt; {content} and {style} stand in it once each.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the choice of styles and of every picture's noise.")
    unit_rows: int = Field(256, ge=1, le=100_000, description="Rows a unit.")

    @model_validator(mode="after")
    def _names_both(self) -> "PromptsSource":
        if self.template.count("{content}") != 1 or self.template.count("{style}") != 1:
            raise ValueError(f"template has {{content}} and {{style}} once each, got {self.template!r}")
        return self


ARRANGED_THINGS = 3
"""Most things in an arranged scene of the shapes world."""


class ShapesSource(_Source):
    """Drawn scenes of coloured shapes and small things, whose captions, boxes and masks are known exactly."""

    kind: Literal["shapes"]
    scenes: int = Field(ge=1, le=100_000_000, description="How many scenes, a row each.")
    seed: int = Field(0, ge=0, lt=2**62, description="Of the first scene; the bundled models learned on 1,000,000 up.")
    max_things: int = Field(4, ge=1, le=8, description="Most things in a scene.")
    photographs: list[str] = Field(
        default_factory=list, description="Files or glob patterns of photographs, behind the things of some scenes."
    )
    layout: Literal["scattered", "arranged"] = Field(
        "scattered",
        description="arranged: one to three large things of any hue, in places that the caption names, on a plain "
        "backdrop; or several alike, of which it says how many.",
    )
    says: Literal["everything", "shape"] = Field(
        "everything",
        description="Of arranged things: shape leaves colour and texture out of captions, so that only a picture of "
        "the thing tells them.",
    )
    hold_out: Literal["none", "train", "held_out"] = Field(
        "none",
        description="Of arranged things: every fifth combination of shape, hue and texture is held out; train has none "
        "of these, held_out no others.",
    )
    captions: bool = Field(True, description="Give the true captions.")
    annotations: bool = Field(False, description="Give the true boxes and masks.")
    unit_rows: int = Field(256, ge=1, le=100_000, description="Rows a unit.")

    @model_validator(mode="after")
    def _fits_its_layout(self) -> "ShapesSource":
        if self.layout == "scattered":
            if (self.says, self.hold_out) != ("everything", "none"):
                raise ValueError("says and hold_out go with layout: arranged")
        elif self.max_things > ARRANGED_THINGS or self.photographs:
            raise ValueError(f"layout arranged has at most {ARRANGED_THINGS} things (max_things) and no photographs")
        return self


class ShardsSource(_Source):
    """The shards of a finished run, to go on from: its records as they were kept, without the fetched files."""

    kind: Literal["shards"]
    path: str = Field(description="Output folder of the run.")
    pairs: str | None = Field(
        None, description="Table from `python -m pipeline pairs`: linked subjects get their partner's crop."
    )
    unpaired: Literal["keep", "drop"] = Field("keep", description="With pairs: what becomes of the other subjects.")
    unit_rows: int = Field(256, ge=1, le=100_000, description="Rows a unit.")


SOURCES: Mapping[str, type[BaseModel]] = {
    "parquet": ParquetSource,
    "coco": CocoSource,
    "folder": FolderSource,
    "webdataset": WebDatasetSource,
    "prompts": PromptsSource,
    "shapes": ShapesSource,
    "shards": ShardsSource,
}

Source = Annotated[
    ParquetSource | CocoSource | FolderSource | WebDatasetSource | PromptsSource | ShapesSource | ShardsSource,
    Field(discriminator="kind"),
]


_RAY_S_OWN = frozenset({"", "CPU", "GPU", "memory", "object_store_memory"})


class Node(_Model):
    """A stage placed in the DAG."""

    id: NodeId
    stage: str = Field(description="A name from `python -m pipeline stages`.")
    needs: list[str] = Field(default_factory=list, description="Nodes that must come before; none reads the source.")
    params: dict[str, Any] = Field(default_factory=dict, description="Parameters of the stage.")
    batch_size: int = Field(16, ge=1, le=65_536, description="Records the stage gets at once.")
    batch_deadline_s: float = Field(
        600, gt=0, le=1_000_000, description="Seconds after which a batch that has not come back is taken for hung."
    )
    load_deadline_s: float = Field(
        1800, gt=0, le=1_000_000, description="Seconds after which loading the stage's models is taken for hung."
    )
    num_cpus: float = Field(1, ge=0, le=1024, description="CPU cores a worker of this node reserves.")
    num_gpus: float = Field(0, ge=0, le=64, description="GPUs a worker reserves; fractions share one GPU.")
    resources: dict[str, Amount] = Field(default_factory=dict, description="Ray resources a worker needs.")
    workers: int | tuple[int, int] = Field((1, 64), description="Workers: a number, or [least, most] to scale between.")

    @model_validator(mode="after")
    def _is_possible(self) -> "Node":
        least, most = self.worker_range
        if not 1 <= least <= most <= 100_000:
            raise ValueError("workers is a number from 1 to 100,000, or [least, most] of such")
        if self.num_gpus > 1 and not self.num_gpus.is_integer():
            raise ValueError(f"num_gpus {self.num_gpus} is neither a part of one GPU nor a number of whole ones")
        if taken := self.resources.keys() & _RAY_S_OWN:
            raise ValueError(f"resources names {', '.join(sorted(taken))}: use num_cpus and num_gpus")
        if self.id in ("source", "units"):
            raise ValueError(f"id {self.id!r} is taken: verdicts and progress use it; choose another")
        return self

    @property
    def worker_range(self) -> tuple[int, int]:
        """Least and most workers."""
        return (self.workers, self.workers) if isinstance(self.workers, int) else self.workers


class Sink(_Model):
    """What is written."""

    kind: Literal["webdataset"] = "webdataset"
    buckets: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default=[0.5, 0.75, 1.0, 1.5, 2.0],
        min_length=1,
        description="Aspect-ratio buckets, width / height.",  # UNIMO-G, section 3.1
    )
    commit_deadline_s: float = Field(
        3600, gt=0, le=1_000_000, description="Seconds after which writing a unit is taken for hung; the run ends then."
    )


class Manifest(_Model):
    """A run of the data engine: where records come from, the stages they go through, what is written."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60, description="Name of the data set.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of every random draw.")
    source: Source
    nodes: list[Node] = Field(min_length=1)
    sink: Sink = Sink()
    paper: Literal["unimo_g", "lambda_eclipse"] | None = Field(
        None, description="Whose published statistics of its data the report sets beside the run's."
    )
    max_consecutive_failures: int = Field(
        200,
        ge=1,
        description="A node that fails this many records in a row stops the run with a diagnosis. Of downloads, those "
        "from one host count once a batch.",
    )

    @model_validator(mode="after")
    def _is_a_dag(self) -> "Manifest":
        ids = [node.id for node in self.nodes]
        for name in ids:
            if ids.count(name) > 1:
                raise ValueError(f"node id {name!r} is used {ids.count(name)} times; ids must be unique")
        for number, node in enumerate(self.nodes):
            for need in node.needs:
                if need not in ids:
                    near = difflib.get_close_matches(need, ids, n=1)
                    there = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(ids)}"
                    raise _MisplacedError(f"no node {need!r}; {there}", ("nodes", number, "needs"))
        try:
            self.sorted_nodes()
        except graphlib.CycleError as error:
            raise ValueError(f"nodes need each other in a circle: {' -> '.join(error.args[1])}") from None
        return self

    def sorted_nodes(self) -> list[Node]:
        """The nodes in an order where each follows all it needs; ties by id, so the file's order does not matter."""
        by_id = {node.id: node for node in self.nodes}
        sorter = graphlib.TopologicalSorter({node.id: node.needs for node in self.nodes})
        sorter.prepare()
        order: list[Node] = []
        ready: list[str] = []
        while sorter.is_active():
            ready = sorted([*ready, *sorter.get_ready()])
            first = ready.pop(0)
            order.append(by_id[first])
            sorter.done(first)
        return order


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A manifest with the text it was read from, so that later mistakes can be shown in their place too."""

    name: str
    text: str
    manifest: Manifest

    def at(self, *loc: int | str) -> str:
        """Where ``loc`` stands, as errors begin: ``demo.yaml:12: node 'ground', params.min_score: ``."""
        return _at(self.name, yaml.compose(self.text, yaml.SafeLoader), yaml.safe_load(self.text), loc)


def read_manifest(path: Path) -> ManifestFile:
    """The manifest in a YAML file.

    Raises:
        ManifestError: With one line per mistake: file, line, place, value and what would be right.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode("utf-8-sig")
    except OSError as error:
        raise ManifestError(f"{path}: cannot read the manifest: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}: cannot read the manifest: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from None
    return parse_manifest(text, str(path))


def parse_manifest(text: str, name: str) -> ManifestFile:
    """The manifest in YAML ``text``; ``name`` stands for the file in errors. Raises as :func:`read_manifest`."""
    plain = _load_yaml(text, name)
    if not isinstance(plain, dict):
        raise ManifestError(f"{name}:1: a manifest maps name, source and nodes to values, got {_short(plain)}")
    try:
        return ManifestFile(name, text, Manifest.model_validate(plain))
    except ValidationError as error:
        tree = yaml.compose(text, yaml.SafeLoader)
        lines = [
            _at(name, tree, plain, _in_file(_place(e))) + explain(e, _settings_at(e["loc"])) for e in error.errors()
        ]
        raise ManifestError("\n".join(lines)) from None


def _load_yaml(text: str, name: str) -> Any:
    try:
        return load_yaml(text)
    except YamlError as error:
        line = f":{error.line}" if error.line else ""
        raise ManifestError(f"{name}{line}: not valid YAML: {error}") from None


def _place(error: Mapping[str, Any]) -> tuple[int | str, ...]:
    """Where a pydantic error belongs, which of those of the whole manifest they say themselves."""
    cause = error.get("ctx", {}).get("error")
    loc: tuple[int | str, ...] = cause.loc if isinstance(cause, _MisplacedError) else error["loc"]
    return loc


def _in_file(loc: Sequence[int | str]) -> list[int | str]:
    """A pydantic location as a place in the file: without the tag of the source's kind."""
    return [part for i, part in enumerate(loc) if not (i == 1 and loc[0] == "source")]


def _settings_at(loc: Sequence[int | str]) -> list[str]:
    """The settings there are at the level of a pydantic location."""
    model: type[BaseModel] = Manifest
    match loc:
        case ["source", str(kind), _]:
            model = SOURCES[kind]
        case ["nodes", int(), _]:
            model = Node
        case ["sink", _]:
            model = Sink
    return list(model.model_fields)


def explain(error: Mapping[str, Any], settings: Sequence[str]) -> str:
    """A pydantic error in a line: what is wrong, the value and, for an unknown setting, those there are."""
    match error["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            near = difflib.get_close_matches(str(error["loc"][-1]), settings, n=1)
            return "no such setting; " + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(settings)}")
        case "union_tag_invalid" if error["loc"] == ("source",):
            return f"no kind {error['ctx']['tag']!r}; there are {', '.join(SOURCES)}"
        case "union_tag_not_found" if error["loc"] == ("source",):
            return f"kind is missing; there are {', '.join(SOURCES)}"
        case _:
            value = f", got {_short(error['input'])}" if error["loc"] else ""
            return str(error["msg"]).removeprefix("Value error, ") + value


def _short(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        text = f"a {type(value).__name__}"
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"


def _at(name: str, tree: yaml.Node | None, plain: Any, loc: Sequence[int | str]) -> str:
    place, rest = "", list(loc)
    match rest:
        case ["nodes", int(number), *inner]:
            node = plain["nodes"][number]
            place, rest = f"node {_cut(repr(node.get('id', number) if isinstance(node, dict) else number))}", inner
    path = ".".join(map(str, rest))
    return f"{name}:{_line(tree, loc)}: " + "".join(
        f"{part}: " for part in [", ".join(filter(None, [place, path]))] if part
    )


def _line(tree: yaml.Node | None, loc: Sequence[int | str]) -> int:
    """The line, from 1, of the deepest YAML node on the way to ``loc``."""
    line = tree.start_mark.line + 1 if tree else 1
    for part in loc:
        if isinstance(tree, yaml.MappingNode):
            pairs = [(key, value) for key, value in tree.value if key.value == part]
        elif isinstance(tree, yaml.SequenceNode) and isinstance(part, int):
            pairs = [(value, value) for value in tree.value[part : part + 1]]
        else:
            pairs = []
        if not pairs:
            return line
        line, tree = pairs[0][0].start_mark.line + 1, pairs[0][1]
    return line
