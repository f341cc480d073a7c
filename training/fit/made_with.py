"""The packages that a run's steps are computed with."""

from collections.abc import Mapping

from manifests.versions import versions

_PACKAGES = ("inlay", "torch", "transformers", "diffusers", "peft", "numpy", "pillow", "simplejpeg")


def made_with() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a step learns, by name."""
    return versions(_PACKAGES)


def told_changes(before: Mapping[str, str]) -> str | None:
    """What is other now than when a checkpoint was written, for a person to read; ``None``: nothing that is known."""
    now = made_with()
    changed = [
        f"{name} {before[name]} -> {now.get(name, 'absent')}" for name in before if before[name] != now.get(name)
    ]
    if not changed:
        return None
    return f"packages are not those of the checkpoint ({', '.join(changed)}): steps may differ in their last digits"
