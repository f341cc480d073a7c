"""The command line of the data engine: ``python -m pipeline --help``."""

from collections.abc import Callable

import typer

from pipeline.commands.demo import demo
from pipeline.commands.look import check, plan_command, report, schema, stages, status
from pipeline.commands.models import models, prompts
from pipeline.commands.run import retry_command, run
from pipeline.commands.shards import dedup, pack, pairs, verify_command

app = typer.Typer(
    name="python -m pipeline",
    help="Inlay's data engine: web metadata in, interleaved-prompt WebDataset shards out.",
    epilog="Exit codes: 0 done; 1 units left undone, or mistakes found; 2 an error to correct; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

_COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "retry": retry_command,
    "check": check,
    "plan": plan_command,
    "status": status,
    "report": report,
    "verify": verify_command,
    "pack": pack,
    "dedup": dedup,
    "pairs": pairs,
    "stages": stages,
    "schema": schema,
    "prompts": prompts,
    "demo": demo,
}

for _name, _command in _COMMANDS.items():
    app.command(name=_name)(_command)
app.add_typer(models, name="models")

if __name__ == "__main__":
    app()
