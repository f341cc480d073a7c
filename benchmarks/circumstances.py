"""Under what circumstances the engine was measured."""

import os
import platform
import sys
from datetime import UTC, datetime

from manifests.versions import versions


def circumstances(module: str) -> dict[str, object]:
    """What was called, when, on what machine, beside how much other work, and with which Ray."""
    return {
        "command": " ".join([f"python -m {module}", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
        "ray": versions(["ray"])["ray"],
    }
