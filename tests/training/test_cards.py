import re

import pytest

from training.cards import Card, read_card, read_cards
from training.recipes import RECIPES


def documented(text: str | None):
    def recipe():
        raise AssertionError("a card is read, not run")

    recipe.__doc__ = text
    return recipe


def test_a_card_is_what_the_docstring_says():
    text = """The prior, on features,
    as the paper trains it.

    Anything: else
    in two lines.

    Hardware: 2 GPUs of 80 GB,
        side by side.
    Time: 2 days.

    Source: Patel et al. 2024, section 4.
    """
    assert read_card(documented(text)) == Card(
        what="The prior, on features, as the paper trains it.",
        more="Anything: else\nin two lines.",
        hardware="2 GPUs of 80 GB, side by side.",
        time="2 days.",
        source="Patel et al. 2024, section 4.",
    )


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (None, "Hardware, Time, Source"),
        ("A recipe.\n\nHardware: 1 GPU.\nTime: a day.", "Source"),
        ("A recipe.\n\nHardware: 1 GPU.\nTime:\nSource: us.", "Time"),
        ("Hardware: 1 GPU.\nTime: a day.\nSource: us.", "nothing"),
        ("A recipe.\n\nTime: 1.\nTime: 2.\nHardware: 1 GPU.\nSource: us.", "nothing"),
    ],
)
def test_a_docstring_of_another_form_is_refused(text, missing):
    with pytest.raises(ValueError, match=re.escape("recipe recipe: its docstring must be") + f".*missing: {missing}$"):
        read_card(documented(text))


def test_every_recipe_has_its_card_and_goes_by_its_name():
    cards = read_cards(RECIPES)

    for name, function in RECIPES.items():
        assert function().name == name
        assert cards[name].what.endswith(".")
