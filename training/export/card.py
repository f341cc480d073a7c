"""The model card of an export: what it is, what it was made from, how to load it, and what its owner must still say."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from training.export.parts import Kind, Part
from training.export.source import Source
from training.weights import bases

_LOADING: dict[Kind, str] = {
    "model": '`{cls}.from_pretrained("{folder}")`',
    "adapter": '`PeftModel.from_pretrained(base, "{folder}")`, `base` a `{cls}` with its published weights',
    "module": "`{cls}`, by `load_state_dict(safetensors.torch.load_file(…))`",
    "loose": "parameters of `{cls}` itself, by `load_state_dict(…, strict=False)`",
}

_USE = """## Use

With Inlay, from the run that this was exported from:

    python -m training generate --run RUN --prompt "a {0:dog} on the beach" --image dog.jpg"""

_TO_FILL_IN = """## To fill in

- **Licence.** It must agree with those of the base weights above and of the data; then name it in the metadata.
- **Data.** Where it came from, and what those who made it or are in it have agreed to.
- **Intended use and limits.** What it was tried on, what it does badly, what it must not be used for."""


def write_card(source: Source, parts: Sequence[Part]) -> str:
    """The card, as Markdown with the metadata that model hubs read."""
    return "\n\n".join((_metadata(source), _title(source), _made(source), _parts(parts), _USE, _TO_FILL_IN)) + "\n"


def _metadata(source: Source) -> str:
    published = sorted({weights.name for _, weights in bases(source.recipe.family) if not Path(weights.name).exists()})
    lines = [
        "license: other",
        "library_name: diffusers",
        "pipeline_tag: text-to-image",
        f"tags: [inlay, {source.recipe.family_name}]",
    ]
    lines += ["base_model:", *(f"  - {name}" for name in published)] if published else []
    return "\n".join(("---", *lines, "---"))


def _title(source: Source) -> str:
    recipe = source.recipe
    what = f"Draws pictures from prompts of text and images; of the family {recipe.family_name}, trained with Inlay."
    return f"# {recipe.name}\n\n{what}"


def _made(source: Source) -> str:
    recipe = source.recipe
    made_with = ", ".join(f"{name} {version}" for name, version in source.notes.versions.items())
    rows = [
        ("recipe", f"`{recipe.name}`; all its values are in `recipe.json`"),
        ("steps", f"{source.notes.step:,} of {recipe.batch_size:,} samples"),
        ("weights", f"moving averages, decay {recipe.ema}" if source.is_averaged else "of the last step"),
        ("data", f"{source.samples:,} samples, fingerprint `{source.data_fingerprint}`"),
        *([("made with", made_with)] if made_with else []),
        *((f"base: {path}", _base(weights.name, weights.revision)) for path, weights in bases(recipe.family)),
    ]
    return "## How it was made\n\n" + _table(("", ""), rows)


def _base(name: str, revision: str | None) -> str:
    return f"`{name}`" + (f" at revision `{revision}`" if revision else "")


def _parts(parts: Sequence[Part]) -> str:
    rows = [
        (f"`{part.folder}`", f"{sum(value.numel() for value in part.tensors().values()):,}", _loading(part))
        for part in parts
    ]
    return "## What is here\n\n" + _table(("folder", "parameters", "load it with"), rows)


def _loading(part: Part) -> str:
    return _LOADING[part.kind].format(cls=type(part.module).__name__, folder=part.folder)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(_lines((head, ["---"] * len(head), *rows)))


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in rows:
        yield f"| {' | '.join(row)} |"
