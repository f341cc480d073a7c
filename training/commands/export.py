"""``python -m training export``: a trained family in the layouts of diffusers and peft."""

from pathlib import Path
from typing import Annotated

import typer

from training.commands.console import readable_errors

Run = Annotated[Path, typer.Option(metavar="RUN", help="Folder that fit wrote")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; must be new or empty")]
Step = Annotated[int | None, typer.Option(metavar="CHECKPOINT", min=0, help="Of its checkpoint; else the newest")]
NoEma = Annotated[bool, typer.Option("--no-ema", help="Take the weights themselves, not their moving average")]
Frozen = Annotated[bool, typer.Option("--frozen", help="Write published parts that training did not move as well")]


def export(run: Run, out: Out, step: Step = None, no_ema: NoEma = False, frozen: Frozen = False) -> None:
    """Write a trained model for others: safetensors as diffusers and peft have them, its recipe, and a model card.

    Models of diffusers and transformers are written by their own [bold]save_pretrained[/bold], low-rank updates as an
    adapter of peft, anything else as safetensors beside its configuration. The card names base weights and data; its
    licence is yours to fill in.
    """
    with readable_errors():
        from training.export.source import read_source
        from training.export.write import export as write

        for part in write(read_source(run, step, not no_ema), out, frozen):
            print(out / part.folder)
        print(out / "README.md")
