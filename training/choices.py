"""Choices among a few words in a recipe, held against the words there are: Python itself lets any other through."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def slips(config: object, path: str = "") -> Iterator[str]:
    """What to say of each field of a dataclass, and of those it holds, whose value is none of its type's words."""
    if isinstance(config, tuple):
        for number, part in enumerate(config):
            yield from slips(part, f"{path}.{number}")
    if not is_dataclass(config) or isinstance(config, type):
        return
    hints = _hints(type(config))
    for field in fields(config):
        value, name = getattr(config, field.name), f"{path}.{field.name}".lstrip(".")
        words = _words(hints.get(field.name))
        if words and value not in words:
            yield f"{name} is {value!r}, but must be {' or '.join(map(repr, words))}"
        yield from slips(value, name)


def _hints(made: type) -> dict[str, Any]:
    """Types by field; none of a class of one's own whose annotations can't be looked up."""
    try:
        return get_type_hints(made)
    except NameError:
        return {}


def _words(hint: object) -> tuple[object, ...]:
    """All that a type takes, if these are words of a ``Literal``, or ``None`` beside them; else nothing."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) not in (Union, UnionType):
        return ()
    parts = [(None,) if part is type(None) else _words(part) for part in get_args(hint)]
    return tuple(word for part in parts for word in part) if all(parts) and parts != [(None,)] else ()
