"""Writing an export: every part to its folder, then the card; all at once, or nothing."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file

from training.export.adapters import merge_mixed, write_adapter
from training.export.card import write_card
from training.export.parts import Part, Saveable, find_parts
from training.export.source import Source
from training.fit.runs import write_recipe
from training.plain import to_plain
from training.weights import bases


def export(source: Source, out: Path, include_frozen: bool = False) -> tuple[Part, ...]:
    """Write a trained family: models by their own ``save_pretrained``, low-rank updates as peft has them, the rest as
    safetensors with a ``config.json``; with its recipe and a model card.

    Args:
        source: The family; low-rank updates of models that train otherwise too, or that began with fresh weights, are
            merged into it.
        out: Folder to write, which must not be there or be empty. It appears whole or not at all.
        include_frozen: Write parts too that training did not move and that are published elsewhere.

    Returns:
        What was written.

    Raises:
        FileExistsError: If the folder holds anything, or is the one that this process is in.
        OSError: If it can't be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is there already and is not overwritten; remove it, or give another --out")
    if Path.cwd().is_relative_to(out.resolve()):
        raise FileExistsError(f"{out} is the folder that you are in, or around it; give --out one of its own")
    merge_mixed(source.family, lambda part: _base(part, source) is not None)
    parts = tuple(part for part in find_parts(source.family) if include_frozen or not _is_elsewhere(part, source))
    with _appearing(out) as folder:
        for part in parts:
            _write(part, folder / part.folder, source)
        write_recipe(folder, source.recipe)
        (folder / "README.md").write_text(write_card(source, parts), "utf-8")
    return parts


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder that takes its name when all is in it."""
    out = out.resolve()
    hidden = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    try:
        yield hidden
        hidden.replace(out)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _write(part: Part, folder: Path, source: Source) -> None:
    folder.mkdir()
    if part.kind == "adapter":
        write_adapter(part, folder, _base(part, source))
    elif isinstance(part.module, Saveable):
        part.module.save_pretrained(str(folder))
    else:
        save_file({name: value.contiguous() for name, value in part.tensors().items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(_config(part, source), indent=2) + "\n")


def _is_elsewhere(part: Part, source: Source) -> bool:
    """Whether others have it already: training did not move it, and it began with published weights."""
    return not part.is_trained and _base(part, source) is not None


def _base(part: Part, source: Source) -> str | None:
    """The published weights that a part began with: those of a field of its name, or that it says it was loaded from.

    ``None``: they were fresh.
    """
    field = part.name.partition(".")[0]
    for path, weights in bases(source.recipe.family):
        if any(step in (field, f"{field}_weights") for step in path.split(".")):
            return weights.name
    return getattr(getattr(part.module, "config", None), "_name_or_path", None) or None


def _config(part: Part, source: Source) -> dict[str, object]:
    """What builds the family that has this part."""
    return {"class": type(part.module).__qualname__, "part": part.name, "family": to_plain(source.recipe.family)}
