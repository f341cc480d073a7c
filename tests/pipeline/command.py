"""The command line in this process, and how it tells a mistake."""

from click.testing import Result
from typer.testing import CliRunner

from pipeline.__main__ import app


def call(*arguments: object) -> Result:
    """What a command did."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def told(result: Result) -> str:
    """The one message of a mistake that a user can correct."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.output.startswith("error: ")
    assert "Traceback" not in result.output
    assert len(result.output) < 5000
    return result.output
