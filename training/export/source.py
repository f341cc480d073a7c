"""What is exported: a trained family, and what is known of its making."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from manifests.record import canonical_json
from training.config import Recipe
from training.fit.checkpoint import Notes, read_notes
from training.fit.runs import checkpoint_of, open_run, read_recipe, step_of
from training.fit.state import weights_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A trained family.

    Attributes:
        recipe: It was trained by, each model of the hub at the commit that was taken.
        family: With the weights to export; what training moved, in this run or the one it began with, asks for a
            gradient, and nothing else does.
        notes: Of its checkpoint.
        use_ema: Whether averaged weights were asked for; there are some if the recipe keeps them.
    """

    recipe: Recipe
    family: nn.Module
    notes: Notes
    use_ema: bool

    @property
    def is_averaged(self) -> bool:
        """Whether its weights are moving averages."""
        return self.use_ema and self.recipe.ema is not None

    @property
    def samples(self) -> int:
        """In its data."""
        return sum(source["samples"] for source in self._sources)

    @property
    def data_fingerprint(self) -> str:
        """Hex SHA-256 of what its data sets were: their units, and digests of their indices."""
        return hashlib.sha256(canonical_json(self._sources).encode()).hexdigest()

    @property
    def _sources(self) -> list[dict[str, int]]:
        sources: list[dict[str, int]] = self.notes.stream["eras"][-1]["sources"]
        return sources


def read_source(run: Path, step: int | None, use_ema: bool) -> Source:
    """The family of a run.

    Raises:
        RunError: If there is no such run or checkpoint.
        NewerError: If a newer Inlay wrote it.
    """
    recipe = read_recipe(run)
    checkpoint = checkpoint_of(run, step)
    recipe, family = open_run(run, ema=use_ema, step=step_of(checkpoint), recipe=recipe)
    notes = read_notes(checkpoint, type(recipe.family).__name__)
    assert isinstance(family, nn.Module), "as_family has seen to it"
    family.requires_grad_(False)
    for name in weights_in(checkpoint):
        family.get_parameter(name).requires_grad_(True)
    return Source(recipe=recipe, family=family, notes=notes, use_ema=use_ema)
