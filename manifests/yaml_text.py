"""YAML as people write it for manifests: plain values only, within bounds, mistakes told with their line."""

from collections.abc import Hashable, Iterator
from typing import Any

import yaml

MAX_BYTES = 2**20
"""Ours. A manifest has some kilobytes; what is larger is another file."""

_MAX_NODES = 100_000
"""Values in all, each alias counted with all it stands for: a few lines of aliases can stand for billions."""

_MAX_DEPTH = 50
_MAX_NUMBER = 100
"""Characters. Longer ones take time to read that grows with their square."""

_TAG = "tag:yaml.org,2002:"
_NUMBERS = (_TAG + "int", _TAG + "float")
_REFUSED = tuple(_TAG + name for name in ("set", "omap", "pairs", "binary"))


class YamlError(ValueError):
    """Text that is no YAML, or none for a manifest.

    Attributes:
        line: Where, from 1; ``None`` if nobody knows.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses duplicate keys instead of keeping the last, and says where a value is malformed."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError) as error:  # PyYAML's own, on malformed scalars
            raise _error(f"{node.tag.removeprefix(_TAG)}: {error}", node) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _TAG + "merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise _error("a key is a plain word here", key_node)
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _error(f"key {key!r} is no text; put {key_node.value} in quotes if it is meant", key_node)
            if key in seen:
                raise _error(f"key {key!r} stands here twice", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """The value that the text is.

    Raises:
        YamlError: If it is not valid, or larger, deeper or stranger than a manifest may be.
    """
    if len(text) > MAX_BYTES:
        raise YamlError(f"more than {MAX_BYTES:,} characters are no manifest")
    try:
        tree = yaml.compose(text, yaml.SafeLoader)
        if tree is not None:
            _count(tree, {}, 1)
        return yaml.load(text, _Loader)  # noqa: S506  (_Loader is a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise YamlError(str(error.problem or error.context), line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise YamlError(f"character {error.character:#x} is not allowed: {error.reason}", line) from None
    except RecursionError:
        raise YamlError(f"nested deeper than {_MAX_DEPTH} levels") from None


def _count(node: yaml.Node, counts: dict[int, int], depth: int) -> int:
    """How many values a node stands for, aliases followed; ``counts`` has those of nodes that were counted before.

    Raises:
        YAMLError: If they are too many, too deep, in a circle, or of a kind that manifests have not.
    """
    if node.tag in _REFUSED:
        raise _error(f"a value of type {node.tag.removeprefix(_TAG)} is not known here", node)
    if depth > _MAX_DEPTH:
        raise _error(f"nested deeper than {_MAX_DEPTH} levels", node)
    if id(node) not in counts:
        counts[id(node)] = 0  # still open: to meet it now is to go in a circle
        counts[id(node)] = 1 + sum(_count(inner, counts, depth + 1) for inner in _inside(node))
    if counts[id(node)] == 0:
        raise _error("an anchor stands inside what it names", node)
    if counts[id(node)] > _MAX_NODES:
        raise _error(f"its aliases stand for more than {_MAX_NODES:,} values", node)
    return counts[id(node)]


def _inside(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif node.tag in _NUMBERS and len(node.value) > _MAX_NUMBER:
        raise _error(f"a number of {len(node.value):,} characters", node)


def _error(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
