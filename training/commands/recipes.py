"""``python -m training recipes``: what can be trained, on what, how long, and whence its figures are."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.pretty import Pretty
from rich.table import Table

from training.commands.console import readable_errors
from training.commands.fit import find_function
from training.plain import to_plain

if TYPE_CHECKING:  # torch stays out of what only prints help
    from training.config import Recipe
    from training.count import Count

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="A recipe, or file.py:function, to see it whole")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables")]


def recipes(name: Name = None, as_json: Json = False) -> None:
    """List the recipes; or print one whole: its values, and how many parameters each part has.

    A recipe is a function that gives plain values: to change some, write one of your own in a file, call the original
    and [bold]dataclasses.replace[/bold] what differs, and name it [bold]file.py:function[/bold].
    """
    with readable_errors():
        if name is None:
            from training.recipes import RECIPES

            _list(RECIPES, as_json)
        else:
            _show(name, find_function(name), as_json)


def _list(functions: Mapping[str, Callable[[], Recipe]], as_json: bool) -> None:
    from training.cards import read_cards

    cards = read_cards(functions)
    families = {name: function().family_name for name, function in functions.items()}
    if as_json:
        print(json.dumps({name: {"family": families[name], **asdict(card)} for name, card in cards.items()}))
        return
    table = Table(show_lines=True)
    table.add_column("recipe, family", no_wrap=True)
    for column in ("trains, by", "hardware, time"):
        table.add_column(column, overflow="fold")
    for name, card in cards.items():
        cells = ((name, families[name]), (card.what, card.source), (card.hardware, card.time))
        table.add_row(*(f"[bold]{escape(first)}[/bold]\n{escape(second)}" for first, second in cells))
    Console().print(table)


def _show(name: str, function: Callable[[], Recipe], as_json: bool) -> None:
    recipe = function()
    counts = _counts(recipe)
    if as_json:
        parameters = counts and {count.part: {"total": count.total, "trained": count.trained} for count in counts}
        print(json.dumps({"name": name, "recipe": to_plain(recipe), "parameters": parameters}))
        return
    console = Console()
    console.print(f"[bold]{escape(name)}[/bold]")
    console.print(inspect.getdoc(function) or "", markup=False, highlight=False)
    console.print(Pretty(recipe, expand_all=True))
    if counts is not None:
        console.print(_table(counts))


def _counts(recipe: Recipe) -> Sequence[Count] | None:
    """Of its parts; ``None``, which is told, where the sizes of published models are not to be had."""
    from training.count import count_parameters

    try:
        return count_parameters(recipe)
    except OSError as error:
        typer.echo(f"parameters are not counted: {error}", err=True)
        return None


def _table(counts: Sequence[Count]) -> Table:
    total, trained = sum(count.total for count in counts), sum(count.trained for count in counts)
    table = Table(title="parameters", title_justify="left", show_footer=True)
    table.add_column("part", footer="all")
    table.add_column("parameters", footer=f"{total:,}", justify="right")
    table.add_column("that train", footer=f"{trained:,}", justify="right")
    for count in counts:
        table.add_row(count.part, f"{count.total:,}", f"{count.trained:,}")
    return table
