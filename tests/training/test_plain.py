import dataclasses
import json
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.config import Group, Lora, Optimiser, Recipe, Schedule, SkipRule
from training.families.base import SampleConfig
from training.plain import NewerError, differences, from_plain, to_plain
from training.recipes import TYPES
from training.stream.recipe import STREAM_RECIPES
from training.weights import Weights

names = st.text(max_size=8)
rates = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(min_value=1)
loras = st.builds(Lora, rank=st.integers(1, 64), alpha=rates, targets=st.lists(names, max_size=3).map(tuple))
groups = st.builds(
    Group, names=names, mode=st.sampled_from(["frozen", "full", "lora"]), lr=rates, lora=st.none() | loras
)
recipes = st.builds(
    Recipe,
    name=names,
    family=st.builds(Weights, name=names, revision=st.none() | names),  # any dataclass of the table does here
    stream=st.sampled_from(sorted(STREAM_RECIPES)).map(lambda name: STREAM_RECIPES[name]()),
    batch_size=counts,
    micro_batch=counts,
    steps=counts,
    groups=st.lists(groups, max_size=3).map(tuple),
    optimiser=st.builds(Optimiser, betas=st.tuples(rates, rates)),
    schedule=st.builds(Schedule, warmup=counts),
    precision=st.sampled_from(["float32", "bfloat16"]),
    ema=st.none() | rates,
    skip=st.builds(SkipRule, spike=st.floats(1, 1e6)),
    sample=st.builds(SampleConfig, size=st.none() | st.tuples(st.integers(), st.integers())),
)


@settings(max_examples=40)
@given(recipe=recipes)
def test_a_recipe_comes_back_from_json_as_it_was(recipe: Recipe) -> None:
    back = from_plain(json.loads(json.dumps(to_plain(recipe))), TYPES)
    assert back == recipe
    assert differences(to_plain(back), to_plain(recipe)) == ()


def test_differences_name_the_field_and_both_values() -> None:
    before = Group(names="*", mode="full", lr=1e-4)
    after = dataclasses.replace(before, lr=1e-3, lora=Lora(rank=4, alpha=4.0, targets=()))
    assert differences(to_plain((before,)), to_plain((after,))) == (
        "0.lora.alpha: absent -> 4.0",
        "0.lora.rank: absent -> 4",
        "0.lora.type: absent -> 'Lora'",
        "0.lr: 0.0001 -> 0.001",
    )


def test_fields_that_are_not_there_take_their_defaults() -> None:
    assert from_plain({"type": "Schedule"}, TYPES) == Schedule()


@pytest.mark.parametrize(
    ("plain", "error", "message"),
    [
        ({"type": "Schedule", "shape": 3}, NewerError, "Schedule has no shape here; it was written by a newer Inlay"),
        ({"type": "Sorcery"}, NewerError, "there is no Sorcery here"),
        ({"warmup": 3}, ValueError, "an object without its type: ['warmup']"),
        ({"type": "Lora"}, ValueError, "Lora can't be made of []"),
    ],
)
def test_what_is_not_known_here_is_refused(plain: dict, error: type[ValueError], message: str) -> None:
    with pytest.raises(error) as caught:
        from_plain(plain, TYPES)
    assert message in str(caught.value)


def test_a_recipe_holds_plain_values_alone() -> None:
    @dataclass
    class Odd:
        value: object

    with pytest.raises(TypeError, match="got set: "):
        to_plain(Odd({1}))
