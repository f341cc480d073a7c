"""What the prior is told of prompts: by features that the engine kept, or by CLIP live."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from training.encoders.clip import Clip
from training.families.base import Conditions, Feature
from training.modules.overwrite import TokenisedText
from training.stream.prompts.base import Reference


@dataclass(frozen=True, slots=True)
class Read:
    """Prompts as the prior sees them: states with subjects in them, which of them are text, and two vectors."""

    states: Float[Tensor, "sample token dim"]
    mask: Bool[Tensor, "sample token"]
    pooled: Float[Tensor, "sample dim"]
    control: Float[Tensor, "sample dim"]


@dataclass(frozen=True, slots=True)
class ClipFeatures:
    """Features of prompts.

    Attributes:
        conditions: The prompts, with their pictures or features.
        network: Middle of the features' names.
        clip: Gives the encoders, for what has no features.
    """

    conditions: Conditions
    network: str
    clip: Callable[[], Clip]

    def of_texts(self, texts: Sequence[TokenisedText]) -> tuple[list[Float[Tensor, "token dim"]], Tensor]:
        """States of each caption, and their projected vectors, (text, dim)."""
        states = self.conditions.features.get(f"caption_{self.network}_states")
        pooled = self.conditions.features.get(f"caption_{self.network}_pooled")
        if states is None or pooled is None:
            found = self.clip().read(texts)
            return list(found.states), found.pooled
        return [_row(states, n) for n in range(len(texts))], torch.stack([_row(pooled, n) for n in range(len(texts))])

    def of_references(self, number: int) -> list[Float[Tensor, " dim"]]:
        """The vector of each reference of a prompt."""
        pairs = zip(self.conditions.prompts[number].references, self.conditions.references[number], strict=True)
        return [self._of_reference(number, reference, pixels) for reference, pixels in pairs]

    def _of_reference(self, number: int, reference: Reference, pixels: Tensor | None) -> Float[Tensor, " dim"]:
        name = f"{reference.name}_{self.network}_vector"
        if name in self.conditions.features:
            return _row(self.conditions.features[name], number)
        if pixels is None:
            raise ValueError(f"the prompt refers to {reference.name}, but has neither its pixels nor {name}")
        return self.clip().see([pixels])[0].to(pixels.device)


def _row(feature: Feature, number: int) -> Tensor:
    row = feature[number]
    if row is None:
        raise ValueError(f"sample {number} of the batch lacks a feature that its prompt refers to")
    return row.float()
