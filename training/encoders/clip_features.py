"""What the prior is told of prompts: by features that the engine kept, or by CLIP live."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from training.encoders.clip import Clip, TextFeatures
from training.families.base import Conditions, Feature
from training.modules.overwrite import TokenisedText
from training.stream.prompts.base import Reference


@dataclass(frozen=True, slots=True)
class Read:
    """Prompts as the prior sees them: states with subjects in them, which of them are text, and two vectors.

    ``cut`` is the share of texts that were too long.
    """

    states: Float[Tensor, "sample token dim"]
    mask: Bool[Tensor, "sample token"]
    pooled: Float[Tensor, "sample dim"]
    control: Float[Tensor, "sample dim"]
    cut: float


@dataclass(frozen=True, slots=True)
class ClipFeatures:
    """Features of prompts.

    Attributes:
        conditions: The prompts, with their pictures or features.
        network: Middle of the features' names.
        dim: Channels that they must have.
        clip: Gives the encoders, for what has no features; it may refuse.
    """

    conditions: Conditions
    network: str
    dim: int
    clip: Callable[[], Clip]

    def of_texts(self, texts: Sequence[TokenisedText]) -> TextFeatures:
        """States of each caption, those that fill up among them or not, and their projected vectors.

        Raises:
            ValueError: If they are of another width, or some samples lack them.
        """
        states = self.conditions.features.get(f"caption_{self.network}_states")
        pooled = self.conditions.features.get(f"caption_{self.network}_pooled")
        if states is None or pooled is None:
            return self.clip().read(texts)
        rows = states if isinstance(states, Tensor) else tuple(map(_there, states))
        self._check([rows] if isinstance(rows, Tensor) else rows)
        return TextFeatures(rows, self.stacked(pooled))

    def of_references(self) -> Float[Tensor, "reference dim"]:
        """The vectors of all references, sample by sample; on the CPU if there are none.

        Raises:
            ValueError: If they are of another width, or are not to be had.
        """
        rows = [
            self._of_reference(sample, reference, pixels)
            for sample, prompt in enumerate(self.conditions.prompts)
            for reference, pixels in zip(prompt.references, self.conditions.references[sample], strict=True)
        ]
        return self.stacked(tuple(rows)) if rows else torch.zeros(0, self.dim)

    def stacked(self, feature: Feature) -> Float[Tensor, "sample dim"]:
        """A feature that all samples have, float32.

        Raises:
            ValueError: If it is of another width, or some samples lack it.
        """
        rows = feature if isinstance(feature, Tensor) else tuple(map(_there, feature))
        self._check(rows)
        if isinstance(rows, Tensor):
            return rows.float()
        with torch.autocast(rows[0].device.type, enabled=False):  # in bfloat16 it refuses to stack float16
            return torch.stack(rows).float()

    def _check(self, features: Iterable[Tensor]) -> None:
        for rows in features:
            if rows.shape[-1] != self.dim:
                raise ValueError(
                    f"features of {self.network} have {rows.shape[-1]} channels, the prior takes {self.dim}: name the "
                    "network in the recipe whose features the data holds, or give the prior their width"
                )

    def _of_reference(self, sample: int, reference: Reference, pixels: Tensor | None) -> Float[Tensor, " dim"]:
        name = f"{reference.name}_{self.network}_vector"
        if name in self.conditions.features:
            return _there(self.conditions.features[name][sample])
        if pixels is None:
            raise ValueError(f"the prompt refers to {reference.name}, but has neither its pixels nor {name}")
        return self.clip().see([pixels])[0]


def _there(row: Tensor | None) -> Tensor:
    if row is None:
        raise ValueError("a sample of the batch lacks a feature that others have: let one embed node make all of them")
    return row
