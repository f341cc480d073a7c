"""The command line of training: ``python -m training --help``."""

import typer

from training.commands.compose import compose
from training.commands.export import export
from training.commands.fit import fit
from training.commands.generate import HELP, generate
from training.commands.recipes import recipes
from training.commands.stream import stream

app = typer.Typer(
    name="python -m training",
    help="Inlay's trainer: shards in, models out.",
    epilog="Exit codes: 0 done; 1 damage found; 2 an error to correct; 128 + N stopped by signal N.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def _training() -> None:
    """Inlay's trainer: shards in, models out."""


app.command()(stream)
app.command()(fit)
app.command(help=HELP)(generate)
app.command()(compose)
app.command()(export)
app.command()(recipes)


if __name__ == "__main__":
    app()
