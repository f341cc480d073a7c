"""Node types of a Ray cluster file, as ``ray up`` reads it."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from pipeline.forecast.arithmetic import ForecastError, NodeType


class _Kind(BaseModel):
    resources: dict[str, float]
    max_workers: int | None = None


class _Cluster(BaseModel):
    available_node_types: dict[str, _Kind] = Field(min_length=1)
    head_node_type: str | None = None


class Cluster(BaseModel):
    """The machines there may be; ``head`` names the type of the one that is always there."""

    kinds: tuple[NodeType, ...]
    head: str | None


def read_cluster(path: Path) -> Cluster:
    """The node types of a cluster file; anything else in it is left alone.

    Raises:
        ForecastError: If it cannot be read, has none, or does not say their resources.
    """
    try:
        plain: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        cluster = _Cluster.model_validate(plain)
    except OSError as error:
        raise ForecastError(
            f"{path}: cannot be read: {error.strerror or error}; name a Ray cluster file with the node types there "
            "may be: --nodes FILE"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ForecastError(f"{path}: no YAML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ForecastError(f"{path}: {where}: {first['msg']}; each node type states its resources") from None
    kinds = [
        NodeType(name=name, resources=kind.resources, most=kind.max_workers)
        for name, kind in cluster.available_node_types.items()
    ]
    return Cluster(kinds=tuple(kinds), head=cluster.head_node_type)
