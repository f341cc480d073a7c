"""Whether references are used: tiny models learn the arranged shapes world and are asked about new subjects.

``python -m benchmarks.learning --recipe unimo_g_shapes`` has the engine write shards of scenes whose captions tell
shape, place and number but neither hue nor texture, trains on them with several seeds, and then, on subjects whose
combination of shape, hue and texture was never met,

- compares the loss with the right reference to that with another's and with none, and
- draws pictures, and measures whether hue and texture are those of the reference, place, number and shape those of the
  text; beside that, the same pictures held against another sample's prompt, which is what chance gives.

A finished training is not repeated. Minutes a seed on a CPU.
"""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.learning_attention import Mass, attention_mass
from benchmarks.learning_look import measure
from benchmarks.learning_measure import Asked, Shares, judge, shares
from benchmarks.learning_probe import Given, Probe, held_out, probe
from benchmarks.learning_sheet import write_sheet
from benchmarks.measure import machine
from stages.shapes.arranged import ArrangedSettings, make_arranged
from training.config import Recipe
from training.families.base import Family, SampleConfig, conditions_of
from training.families.unimo_g import UnimoG, UnimoGConfig
from training.fit.checkpoint import committed
from training.fit.fit import FitSettings, run_fit
from training.fit.runs import CHECKPOINTS, open_run
from training.fit.world import device_of_rank
from training.recipes import RECIPES
from training.stream.source import Dataset
from training.stream.tensors import BatchTensors

MANIFEST = Path("manifests/shapes_references.yaml")
HELD_OUT_SEED, HELD_OUT_SCENES = 500_000, 500
_SETTINGS = ArrangedSettings(hold_out="held_out")

Out = Annotated[Path, typer.Option(help="Where shards and runs are kept")]
RecipeName = Annotated[list[str], typer.Option("--recipe", help="Recipes to learn by, each a tiny model")]
Seeds = Annotated[int, typer.Option(min=1, help="Trainings a recipe")]
Steps = Annotated[int | None, typer.Option(min=1, help="Of each; else the recipe's")]
Batches = Annotated[int, typer.Option(min=2, help="Held-out batches of 32")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda …; else a GPU if there is one")]
Attention = Annotated[float | None, typer.Option(min=0, help="Weight of UNIMO-G's attention loss; else the recipe's")]
Shards = Annotated[Path | None, typer.Option(help="Folder with train/ and held_out/ shards that are there already")]
Results = Annotated[Path | None, typer.Option(help="JSON file for the figures")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What one training came to.

    Attributes:
        margins: By what was given instead of the right reference and by term: the mean rise of the loss, and the loss.
        drawn: Pictures held against their own prompts.
        chance: The same pictures held against those of others.
        attention: How much of the attention to references is on their subjects; ``None`` for families without any.
    """

    margins: Mapping[str, float]
    drawn: Shares | None
    chance: Shares | None
    attention: Mass | None


def main(
    recipe: RecipeName,
    out: Out = Path("build/learning"),
    seeds: Seeds = 3,
    steps: Steps = None,
    batches: Batches = 8,
    device: Device = None,
    attention: Attention = None,
    shards: Shards = None,
    results: Results = None,
) -> None:
    """Train, ask and tell."""
    torch.set_num_threads(1)
    lesson = Lesson(
        train=shards / "train" if shards else _shards(out, "train", 0, 4000),
        held=shards / "held_out" if shards else _shards(out, "held_out", HELD_OUT_SEED, HELD_OUT_SCENES),
        out=out,
        batches=batches,
        device=device_of_rank(device),
    )
    found = {}
    for name in recipe:
        chosen = _recipe(name, steps, attention)
        learnt = [lesson.learn(replace(chosen, seed=seed)) for seed in range(seeds)]
        found[name] = [asdict(each) for each in learnt]
        Console().print(_table(name, learnt))
    if results:
        about = {"machine": machine(lesson.device.type), "seeds": seeds, "steps": steps, "attention": attention}
        results.write_text(json.dumps({**about, "recipes": found}, indent=1) + "\n")


def _recipe(name: str, steps: int | None, attention: float | None) -> Recipe:
    recipe = RECIPES[name]()
    family = recipe.family
    if attention is not None:
        if not isinstance(family, UnimoGConfig) or family.attention is None:
            raise typer.BadParameter(f"{name} has no attention loss to weigh", param_hint="--attention")
        family = replace(family, attention=replace(family.attention, weight=attention))
    return replace(recipe, family=family, steps=steps or recipe.steps)


def _shards(out: Path, hold_out: str, seed: int, scenes: int) -> Path:
    """Shards of the manifest with these of its settings changed; what is there already stays."""
    folder, manifest = out / hold_out, out / f"{hold_out}.yaml"
    out.mkdir(parents=True, exist_ok=True)
    text = MANIFEST.read_text().replace("scenes: 4000", f"scenes: {scenes}\n  seed: {seed}")
    manifest.write_text(text.replace("hold_out: train", f"hold_out: {hold_out}"))
    command = [sys.executable, "-m", "pipeline", "run", str(manifest), "--out", str(folder), "--local"]
    subprocess.run(command, check=True)  # noqa: S603
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What is learnt from, what is asked about, where, and on what device."""

    train: Path
    held: Path
    out: Path
    batches: int
    device: torch.device

    def learn(self, recipe: Recipe) -> Learnt:
        """Train, unless that is done already, and ask."""
        run = self.out / _name(recipe)
        if f"step_{recipe.steps:08d}" not in {path.name for path in committed(run / CHECKPOINTS)}:
            data = (Dataset(url=str(self.train)),)
            run_fit(FitSettings(recipe=recipe, data=data, out=run, resume="if_any", device=str(self.device)))
        _, family = open_run(run, device=str(self.device))
        asked = list(held_out(str(self.held), recipe.stream, self.batches, self.device))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            losses = probe(family, asked)  # type: ignore[arg-type]
            mass = attention_mass(family, asked) if isinstance(family, UnimoG) else None
            drawn, chance = _draw(family, asked[: max(self.batches // 2, 1)], self.held, run)
        return Learnt(margins=_margins(losses), drawn=drawn, chance=chance, attention=mass)


def _name(recipe: Recipe) -> str:
    usual, attention = (getattr(each.family, "attention", None) for each in (RECIPES[recipe.name](), recipe))
    changed = f"-{attention.weight:g}" if attention and attention != usual else ""
    return f"{recipe.name}-{recipe.steps}-{recipe.seed}{changed}"


def _margins(found: Probe) -> dict[str, float]:
    others: tuple[Given, ...] = ("wrong", "none")
    rises = {
        f"{term}, {other} - right": float(np.mean(found.margin(other, term)))
        for term in found.losses["right"]
        for other in others
    }
    return {**{f"{term}, right": float(np.mean(rows)) for term, rows in found.losses["right"].items()}, **rises}


def _draw(family: Family, batches: Sequence[BatchTensors], held: Path, run: Path) -> tuple[Shares, Shares]:
    rows = _rows(held)
    looks, asked = [], []
    for number, tensors in enumerate(batches):
        pictures = family.sample(conditions_of(tensors), SampleConfig(seed=0), number * 32).cpu().numpy()
        look = measure(pictures.shape[1])
        looks += [look(picture) for picture in pictures]
        asked += [_asked(rows[key]) for key in tensors.batch.keys]
        np.save(run / f"drawn-{number}.npy", pictures)
        if not number:
            write_sheet(run / "drawn.png", tensors, pictures, held)
    own = shares(judge(*pair) for pair in zip(looks, asked, strict=True))
    others = shares(judge(*pair) for pair in zip(looks, asked[1:] + asked[:1], strict=True))
    return own, others


def _asked(row: int) -> Asked:
    return Asked.of(make_arranged(HELD_OUT_SEED + row, _SETTINGS))


def _rows(folder: Path) -> dict[str, int]:
    """The row that each sample was made of, by its key."""
    rows = {}
    for path in sorted((folder / "shards").glob("*.tar")):
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
            plain = [json.load(file) for each in tar if each.name.endswith(".json") and (file := tar.extractfile(each))]
            rows.update({record["key"]: int(record["row"]) for record in plain})
    return rows


def _table(name: str, learnt: Sequence[Learnt]) -> Table:
    table = Table(title=f"{name}: {len(learnt)} trainings, subjects never met", title_justify="left")
    for title in ("figure", "mean", "95 % interval"):
        table.add_column(title, justify="left" if title == "figure" else "right")
    for label, values in _figures(learnt).items():
        mean, half = _interval(values)
        table.add_row(label, f"{mean:.4f}", f"{mean - half:.4f} to {mean + half:.4f}")
    return table


def _figures(learnt: Sequence[Learnt]) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {name: [each.margins[name] for each in learnt] for name in learnt[0].margins}
    for kind in ("drawn", "chance", "attention"):
        if getattr(learnt[0], kind) is None:
            continue
        measured: list[dict[str, Any]] = [asdict(getattr(each, kind)) for each in learnt]
        figures.update({f"{kind}: {name}": [row[name] for row in measured] for name in measured[0]})
    return figures


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the interval that Student's t gives it at 95 %; not a number for a single value."""
    if len(values) < 2:
        return float(np.mean(values)), float("nan")
    spread = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(np.mean(values)), float(stats.t.ppf(0.975, len(values) - 1)) * spread


if __name__ == "__main__":
    typer.run(main)
