"""``python -m training compose``: what several runs have learnt, put together without training."""

from pathlib import Path
from typing import Annotated

import typer

from training.commands.console import readable_errors
from training.commands.export import NoEma

Runs = Annotated[list[Path], typer.Option("--run", metavar="RUN", help="Folder that fit wrote; may be given again")]
Scales = Annotated[list[float] | None, typer.Option("--scale", help="How much each run says, in their order; else 1")]
Out = Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run to write; must be new or empty")]


def compose(run: Runs, out: Out, scale: Scales = None, no_ema: NoEma = False) -> None:
    """Put runs of EMMA together: one run that reads all of their conditions, to draw from, to export and to begin with.

    A prompt's first slot is for the first run's condition, the second for the second's: "a {0} in the manner of {1}".
    One run alone with a [bold]--scale[/bold] says more, or less.
    """
    with readable_errors():
        from training.fit.compose import compose as write

        print(write(run, out, scale, not no_ema))
