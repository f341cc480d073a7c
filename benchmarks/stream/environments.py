"""A virtual environment for each loader, built when it is first asked for."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SHARED = ("torch==2.13.0", "pillow==13.0.0", "simplejpeg==1.9.0", "psutil==7.2.2")
"""In every environment, so that all decode with the same libraries."""
_INSTALLED = "installed.txt"


class BuildError(RuntimeError):
    """An environment could not be built; the message ends with what pip said."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Exact versions of packages in a folder of their own. ``packages`` empty: this interpreter and what it has."""

    name: str
    packages: tuple[str, ...]

    def python(self, folder: Path) -> Path:
        """The interpreter of this environment, which is built under ``folder`` if it is not there as wanted.

        Raises:
            BuildError: If pip fails.
        """
        if not self.packages:
            return Path(sys.executable)
        home = folder / self.name
        wanted = "\n".join((*SHARED, *self.packages))
        written = home / _INSTALLED
        if not written.exists() or written.read_text() != wanted:
            self._build(home)
            written.write_text(wanted)
        return home / "bin" / "python"

    def _build(self, home: Path) -> None:
        python = home / "bin" / "python"
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(home)],
            [str(python), "-m", "pip", "install", "--quiet", *SHARED, *self.packages],
        ):
            done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 (our own words)
            if done.returncode:
                raise BuildError(f"environment {self.name}: {command[2:4]} failed: {done.stderr[-500:]}")
