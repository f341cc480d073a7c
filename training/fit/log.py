"""Figures of a run as JSON lines."""

import json
from collections.abc import Mapping
from pathlib import Path


class JsonLines:
    """A line a step in ``log.jsonl`` of a run's folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.jsonl"

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note figures after so many steps."""
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
