"""YAML within bounds."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from manifests.yaml_text import YamlError, load_yaml

scalars = st.one_of(st.none(), st.booleans(), st.integers(-(10**50), 10**50), st.floats(), st.text(max_size=20))
plain = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=20,
)


def same(left: object, right: object) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return type(left) is type(right) and left == right


@given(plain)
def test_what_is_written_is_read(value: object) -> None:
    assert same(load_yaml(yaml.safe_dump(value, allow_unicode=True)), value)


@given(st.text())
def test_any_text_is_a_value_or_an_error_of_one_line(text: str) -> None:
    try:
        load_yaml(text)
    except YamlError as error:
        assert error.line is None or 1 <= error.line <= len(text) + 1
        assert str(error)


@pytest.mark.parametrize(("levels", "is_read"), [(1, True), (4, True), (6, False), (30, False)])
def test_aliases_count_with_all_they_stand_for(levels: int, is_read: bool) -> None:
    text = "- &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    text += "".join(f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, levels))
    if is_read:
        assert len(load_yaml(text)) == levels
    else:
        with pytest.raises(YamlError, match="aliases stand for more") as caught:
            load_yaml(text)
        assert caught.value.line


@pytest.mark.parametrize("depth", [49, 60, 3000])
def test_depth_is_bounded(depth: int) -> None:
    text = "[" * depth + "]" * depth
    if depth < 50:
        assert yaml.safe_dump(load_yaml(text), default_flow_style=True).strip() == text
    else:
        with pytest.raises(YamlError, match="nested deeper than 50 levels"):
            load_yaml(text)
