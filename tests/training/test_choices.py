from dataclasses import dataclass, replace
from typing import Any

import pytest

from training.choices import slips
from training.config import Group
from training.families.unimo_g import UnimoGConfig
from training.recipe_unimo_g import unimo_g_tiny
from training.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_have_words_that_there_are(name: str) -> None:
    assert list(slips(RECIPES[name]())) == []


def test_a_slip_is_named_with_the_words_there_are_wherever_it_is() -> None:
    recipe: Any = unimo_g_tiny()
    assert isinstance(recipe.family, UnimoGConfig)
    attention: Any = replace(recipe.family.attention, kind="l2")
    wrong: Any = "half"
    groups = (*recipe.groups, Group(names="*", mode=wrong))
    changed = replace(recipe, family=replace(recipe.family, attention=attention), groups=groups, precision=wrong)
    assert list(slips(changed)) == [
        "family.attention.kind is 'l2', but must be 'l1' or 'balanced_l1'",
        "groups.1.mode is 'half', but must be 'frozen' or 'full' or 'lora'",
        "precision is 'half', but must be 'float32' or 'bfloat16'",
    ]


def test_classes_of_ones_own_whose_types_can_not_be_looked_up_are_passed_over() -> None:
    @dataclass
    class Own:
        value: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    assert list(slips(Own(3))) == []
