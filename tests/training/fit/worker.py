"""One process of a run of the toy, as torchrun would start it: ``worker.py DATA OUT CHANGES SETTINGS`` (JSON)."""

import json
import sys
from pathlib import Path

from tests.training.fit.toy import ToyConfig, toy_recipe, toy_settings
from training.fit.fit import run_fit


def main() -> None:
    data, out, changes, settings = (
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        json.loads(sys.argv[3]),
        json.loads(sys.argv[4]),
    )
    if "family" in changes:
        changes["family"] = ToyConfig(**changes["family"])
    run_fit(toy_settings(data, out, toy_recipe(**changes), **settings))


if __name__ == "__main__":
    main()
