"""What a recipe says of itself: its docstring has one form, so that people and the command line read the same.

The form, each part a paragraph or a line of its own::

    What it trains, in one sentence.

    Anything else that is worth saying.

    Hardware: 8 GPUs of 80 GB.
    Time: 2 days.
    Source: the paper, section 4.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from training.config import Recipe

_FACTS = ("Hardware", "Time", "Source")
_FACT = re.compile(rf"^({'|'.join(_FACTS)}):[ \t]+", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A recipe in words.

    Attributes:
        what: It trains; a sentence.
        more: Anything else; may be empty.
        hardware: It is meant for.
        time: It takes there.
        source: Of its figures.
    """

    what: str
    more: str
    hardware: str
    time: str
    source: str


def read_card(function: Callable[[], Recipe]) -> Card:
    """The card of a recipe, from its function's docstring.

    Raises:
        ValueError: If it has none of that form.
    """
    head, *facts = _FACT.split(inspect.getdoc(function) or "")
    found = dict(zip(facts[::2], map(_joined, facts[1::2]), strict=True))
    what, _, more = head.strip().partition("\n\n")
    missing = [name for name in _FACTS if not found.get(name)]
    if missing or not what or len(facts) != 2 * len(_FACTS):
        name = getattr(function, "__name__", repr(function))
        raise ValueError(
            f"recipe {name}: its docstring must be a sentence, then Hardware:, Time: and Source:, once each, a line "
            f"each; missing: {', '.join(missing) or 'nothing'}"
        )
    return Card(
        what=_joined(what),
        more=more.strip(),
        hardware=found["Hardware"],
        time=found["Time"],
        source=found["Source"],
    )


def _joined(text: str) -> str:
    return " ".join(text.split())


def read_cards(recipes: Mapping[str, Callable[[], Recipe]]) -> dict[str, Card]:
    """The cards of some recipes, in their order."""
    return {name: read_card(function) for name, function in recipes.items()}
