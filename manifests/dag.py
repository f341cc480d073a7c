"""What a DAG manifest may say, and its first validation: form, without knowing any stage."""

import graphlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

NodeId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]


class ManifestError(ValueError):
    """A manifest that cannot run; the message names the file, the place, the value and what would be right."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Paths(_Model):
    paths: list[str] = Field(min_length=1, description="Files or glob patterns, relative to where the command runs.")
    unit_rows: int = Field(256, ge=1, le=100_000, description="Rows a unit: the grain of work, commit and resume.")


class ParquetSource(_Paths):
    """Metadata rows with URLs: LAION, COYO, GRIT, or any Parquet with a URL and a text column."""

    kind: Literal["parquet"]
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Record field -> column name, where the usual names (URL, TEXT, WIDTH, …) don't fit.",
    )


class CocoSource(_Model):
    """A COCO-format data set on disk: captions, boxes and masks in JSON beside a folder of images."""

    kind: Literal["coco"]
    images: str = Field(description="Folder of the images.")
    captions: str = Field(description="COCO captions JSON; one record a caption chosen by `captions_per_image`.")
    instances: str | None = Field(None, description="COCO instances JSON: boxes and masks.")
    captions_per_image: int = Field(1, ge=1, le=10, description="How many captions of an image become records.")
    unit_rows: int = Field(256, ge=1, le=100_000, description="Rows a unit.")


class FolderSource(_Model):
    """A folder of images, each with a caption in a .txt of the same name, or all in one JSONL file."""

    kind: Literal["folder"]
    path: str = Field(description="Folder, read recursively.")
    captions: str | None = Field(None, description='JSONL with {"file": …, "caption": …}; without it NAME.txt is read.')
    unit_rows: int = Field(256, ge=1, le=100_000, description="Rows a unit.")


class WebDatasetSource(_Paths):
    """Existing WebDataset tars, such as img2dataset writes: an image, a .txt and a .json a key."""

    kind: Literal["webdataset"]


Source = Annotated[ParquetSource | CocoSource | FolderSource | WebDatasetSource, Field(discriminator="kind")]


class Node(_Model):
    """A stage placed in the DAG."""

    id: NodeId
    stage: str = Field(description="A name from `python -m pipeline stages`.")
    needs: list[str] = Field(default_factory=list, description="Nodes that must come before; none reads the source.")
    params: dict[str, Any] = Field(default_factory=dict, description="Parameters of the stage.")
    batch_size: int = Field(16, ge=1, le=65_536, description="Records the stage gets at once.")
    num_cpus: float = Field(1, ge=0, le=1024, description="CPU cores a worker of this node reserves.")
    num_gpus: float = Field(0, ge=0, le=64, description="GPUs a worker reserves; fractions share one GPU.")
    resources: dict[str, float] = Field(default_factory=dict, description="Ray resources a worker needs.")
    workers: int | tuple[int, int] = Field((1, 64), description="Workers: a number, or [least, most] to scale between.")

    @model_validator(mode="after")
    def _workers_in_order(self) -> "Node":
        least, most = self.worker_range
        if not 1 <= least <= most:
            raise ValueError(f"workers must be at least 1, and the least not above the most, got {self.workers}")
        return self

    @property
    def worker_range(self) -> tuple[int, int]:
        """Least and most workers."""
        return (self.workers, self.workers) if isinstance(self.workers, int) else self.workers


class Sink(_Model):
    """What is written."""

    kind: Literal["webdataset"] = "webdataset"
    buckets: list[Annotated[float, Field(gt=0)]] = Field(
        default=[0.5, 0.75, 1.0, 1.5, 2.0],
        min_length=1,
        description="Aspect-ratio buckets, width / height.",  # UNIMO-G, section 3.1
    )


class Manifest(_Model):
    """A run of the data engine: where records come from, the stages they go through, what is written."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60, description="Name of the data set.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of every random draw.")
    source: Source
    nodes: list[Node] = Field(min_length=1)
    sink: Sink = Sink()
    max_consecutive_failures: int = Field(
        200, ge=1, description="A node that fails this many records in a row stops the run with a diagnosis."
    )

    @model_validator(mode="after")
    def _is_a_dag(self) -> "Manifest":
        ids = [node.id for node in self.nodes]
        for name in ids:
            if ids.count(name) > 1:
                raise ValueError(f"node id {name!r} is used {ids.count(name)} times; ids must be unique")
        for node in self.nodes:
            for need in node.needs:
                if need not in ids:
                    raise ValueError(f"node {node.id!r} needs {need!r}, which is no node; there are {', '.join(ids)}")
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


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses duplicate keys instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands here twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_manifest(path: Path) -> Manifest:
    """The manifest in a YAML file.

    Raises:
        ManifestError: With one line per mistake: file, line, place, value and what would be right.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot read the manifest: {error}") from None
    return parse_manifest(text, str(path))


def parse_manifest(text: str, name: str) -> Manifest:
    """The manifest in YAML ``text``; ``name`` stands for the file in errors. Raises as :func:`read_manifest`."""
    try:
        plain = yaml.load(text, _Loader)  # noqa: S506  (_Loader is a SafeLoader)
        tree = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ManifestError(f"{name}:{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ManifestError(f"{name}: not valid YAML: {error}") from None
    if not isinstance(plain, dict):
        raise ManifestError(
            f"{name}:1: a manifest is a mapping with name, source and nodes, got {type(plain).__name__}"
        )
    try:
        return Manifest.model_validate(plain)
    except ValidationError as error:
        raise ManifestError("\n".join(_explain(name, tree, plain, e) for e in error.errors())) from None


def _explain(name: str, tree: yaml.Node | None, plain: Any, error: Mapping[str, Any]) -> str:
    loc = [part for part in error["loc"] if part not in ("parquet", "coco", "folder", "webdataset")]
    value = "" if error["type"] == "missing" or not loc else f", got {_short(error['input'])}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{name}:{line_of(tree, loc)}: {place(plain, loc)}{message}{value}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "…"


def place(plain: Any, loc: Sequence[int | str]) -> str:
    """A location as people name it: ``node 'ground', params.min_score: ``."""
    head, rest = "", list(loc)
    if len(rest) > 1 and rest[0] == "nodes" and isinstance(rest[1], int):
        node = plain["nodes"][rest[1]]
        head = f"node {node.get('id', rest[1])!r}" if isinstance(node, dict) else f"node {rest[1]}"
        rest = rest[2:]
    path = ".".join(map(str, rest))
    return f"{head}{', ' if head and path else ''}{path}{': ' if head or path else ''}"


def line_of(tree: yaml.Node | None, loc: Sequence[int | str]) -> int:
    """The line, from 1, of the deepest YAML node on the way to ``loc``."""
    line = tree.start_mark.line + 1 if tree else 1
    for part in loc:
        if isinstance(tree, yaml.MappingNode):
            pair = next(((k, v) for k, v in tree.value if k.value == part), None)
            if pair is None:
                return line
            line, tree = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(tree, yaml.SequenceNode) and isinstance(part, int) and part < len(tree.value):
            tree = tree.value[part]
            line = tree.start_mark.line + 1
        else:
            return line
    return line


def json_schema() -> str:
    """The JSON Schema of a manifest, for editors."""
    return json.dumps(Manifest.model_json_schema(), indent=1) + "\n"
