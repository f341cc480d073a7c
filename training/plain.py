"""Recipes as JSON and back: nested frozen dataclasses with their types' names."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

Plain: TypeAlias = "str | float | bool | list[Plain] | dict[str, Plain] | None"
"""A JSON value."""

_TYPE = "type"


class NewerError(ValueError):
    """Something that a newer Inlay wrote."""


def to_plain(value: object) -> Plain:
    """A value of dataclasses, tuples and scalars as JSON takes it; a dataclass says its type.

    Raises:
        TypeError: If it holds anything else.
    """
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
        return {_TYPE: type(value).__name__, **parts}
    if isinstance(value, tuple):
        return [to_plain(part) for part in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a recipe holds dataclasses, tuples, strings and numbers, got {type(value).__name__}: {value!r}")


def from_plain(plain: Plain, types: Mapping[str, type]) -> Any:
    """The value that :func:`to_plain` gave; fields that are not there take their defaults.

    Args:
        plain: What it gave.
        types: The dataclasses it may hold, by name.

    Raises:
        NewerError: If it names a type or a field that is not known here.
        ValueError: If a value is none that its type takes.
    """
    if isinstance(plain, list):
        return tuple(from_plain(part, types) for part in plain)
    if not isinstance(plain, dict):
        return plain
    made = _type_of(plain, types)
    values = {name: from_plain(part, types) for name, part in plain.items() if name != _TYPE}
    unknown = sorted(values.keys() - {field.name for field in fields(made)})
    if unknown:
        raise NewerError(f"{made.__name__} has no {', '.join(unknown)} here; it was written by a newer Inlay: use that")
    try:
        return made(**values)
    except TypeError as error:
        raise ValueError(f"{made.__name__} can't be made of {sorted(values)}: {error}") from None


def _type_of(plain: Mapping[str, Plain], types: Mapping[str, type]) -> type[Any]:
    name = plain.get(_TYPE)
    if not isinstance(name, str):
        raise ValueError(f"an object without its type: {sorted(plain)}")
    if name not in types:
        raise NewerError(
            f"there is no {name} here; it was written by a newer Inlay, or is of a recipe file of your own"
        )
    return types[name]


def leaves(plain: Plain, path: str = "") -> dict[str, Plain]:
    """All scalars by dotted path: ``{"type": "Recipe", "groups.0.lr": 0.0001, …}``."""
    if isinstance(plain, dict):
        parts = plain.items()
    elif isinstance(plain, list):
        parts = {str(number): part for number, part in enumerate(plain)}.items()
    else:
        return {path: plain}
    return {name: leaf for key, part in parts for name, leaf in leaves(part, f"{path}.{key}" if path else key).items()}


def differences(before: Plain, after: Plain) -> tuple[str, ...]:
    """What differs, a leaf a line: ``groups.0.lr: 0.0001 -> 0.001``; what isn't there, as fields of later are not, is
    as good as ``None``.
    """
    then, now = leaves(before), leaves(after)
    names = [name for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]
    return tuple(f"{name}: {_said(then, name)} -> {_said(now, name)}" for name in names)


def _said(values: Mapping[str, Plain], name: str) -> str:
    return repr(values[name]) if name in values else "absent"
