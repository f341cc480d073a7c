"""What activations take at recipes' real sizes, by the trainer's own estimate: shapes alone, nothing downloaded.

``python -m benchmarks.activation_memory`` goes through a forward and a backward pass of each recipe's ``micro_batch``,
in the types that autocast takes on CUDA, and tells the peak beside weights, gradients and the optimiser.
"""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.training_cases import Maker, recipe_of
from training.config import Recipe
from training.families.lambda_eclipse import LambdaEclipseConfig
from training.fit.activations import activations_of
from training.fit.parallel import Layout
from training.weights import Weights

RECIPES = (
    "lambda_eclipse",
    "lambda_eclipse_shapes_128",
    "unimo_g_t2i_256",
    "unimo_g_300m_512",
    "unimo_g_instruct_512",
    "unimo_g_sd15",
    "unimo_g_shapes_128",
    "mumu",
    "mumu_high",
    "ella",
    "emma_object",
)
"""Those with a step of its own size that needs nothing from the hub."""

Names = Annotated[list[str] | None, typer.Option("--recipe", help="Recipes; else all that need nothing from the hub")]
Shards = Annotated[int, typer.Option(min=1, help="Ranks that share what trains")]
Results = Annotated[Path | None, typer.Option(help="JSON file for the figures")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a recipe's step takes on a rank.

    Attributes:
        recipe: That is estimated.
        samples: Taken at once.
        recompute: Whether activations are computed again.
        activations_gib: The peak beside weights, gradients and the optimiser.
        kept_gib: The same without recomputing, where the recipe does.
        cpu_s: That the estimate took, in CPU seconds.
    """

    recipe: str
    samples: int
    recompute: bool
    activations_gib: float
    kept_gib: float | None
    cpu_s: float


def main(recipe: Names = None, shards: Shards = 1, results: Results = None) -> None:
    """Estimate and tell."""
    layout = Layout(mode="auto", device=torch.device("cuda"), size=shards)
    costs = []
    for name in recipe or RECIPES:
        costs.append(cost_of(name, layout))
        print(json.dumps(asdict(costs[-1])), flush=True)
    table = Table("recipe", "samples", "recompute", "activations GiB", "without recompute", "CPU s")
    for cost in costs:
        kept = "" if cost.kept_gib is None else f"{cost.kept_gib:,.1f}"
        figures = (f"{cost.activations_gib:,.1f}", kept, f"{cost.cpu_s:.1f}")
        table.add_row(cost.recipe, str(cost.samples), "yes" if cost.recompute else "no", *figures)
    Console().print(table)
    if results:
        about = {"torch": torch.__version__, "shards": shards}
        results.write_text(json.dumps({**about, "costs": [asdict(cost) for cost in costs]}, indent=1) + "\n")


def cost_of(name: str, layout: Layout) -> Cost:
    """What a recipe's step takes."""
    recipe = _offline(recipe_of(name, None))
    began = time.process_time()
    activations = _gib(recipe, layout)
    cpu_s = time.process_time() - began
    return Cost(
        recipe=name,
        samples=recipe.micro_batch,
        recompute=recipe.recompute,
        activations_gib=activations,
        kept_gib=_gib(replace(recipe, recompute=False), layout) if recipe.recompute else None,
        cpu_s=cpu_s,
    )


def _gib(recipe: Recipe, layout: Layout) -> float:
    return activations_of(recipe, Maker(recipe).batches(1)[0], layout).bytes / 2**30


def _offline(recipe: Recipe) -> Recipe:
    """The prior reads tokens of the bundled CLIP's tokenizer, as the made-up samples have it."""
    if not isinstance(recipe.family, LambdaEclipseConfig):
        return recipe
    return replace(recipe, family=replace(recipe.family, clip=Weights(name="stages/data/shapes_clip")))


if __name__ == "__main__":
    typer.run(main)
