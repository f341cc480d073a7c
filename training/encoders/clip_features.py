"""What the prior is told of prompts: by features that the engine kept, or by CLIP live."""

from collections.abc import Callable, Sequence
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
        clip: Gives the encoders, for what has no features; it may refuse.
    """

    conditions: Conditions
    network: str
    clip: Callable[[], Clip]

    def of_texts(self, texts: Sequence[TokenisedText]) -> TextFeatures:
        """States of each caption, those that fill up among them or not, and their projected vectors."""
        states = self.conditions.features.get(f"caption_{self.network}_states")
        pooled = self.conditions.features.get(f"caption_{self.network}_pooled")
        if states is None or pooled is None:
            return self.clip().read(texts)
        return TextFeatures(_whole(states), stacked(pooled))

    def of_references(self, dim: int) -> Float[Tensor, "reference dim"]:
        """The vectors of all references, sample by sample; the width is for where there are none."""
        pairs = [
            (sample, reference, pixels)
            for sample, prompt in enumerate(self.conditions.prompts)
            for reference, pixels in zip(prompt.references, self.conditions.references[sample], strict=True)
        ]
        rows = [self._of_reference(*pair) for pair in pairs]
        return torch.stack(rows).float() if rows else torch.zeros(0, dim)

    def _of_reference(self, sample: int, reference: Reference, pixels: Tensor | None) -> Float[Tensor, " dim"]:
        name = f"{reference.name}_{self.network}_vector"
        if name in self.conditions.features:
            return _there(self.conditions.features[name][sample])
        if pixels is None:
            raise ValueError(f"the prompt refers to {reference.name}, but has neither its pixels nor {name}")
        return self.clip().see([pixels])[0]


def stacked(feature: Feature) -> Tensor:
    """A feature that all samples have in one shape, float32."""
    return (feature if isinstance(feature, Tensor) else torch.stack(list(_whole(feature)))).float()


def _whole(feature: Feature) -> Tensor | tuple[Tensor, ...]:
    return feature if isinstance(feature, Tensor) else tuple(_there(row) for row in feature)


def _there(row: Tensor | None) -> Tensor:
    if row is None:
        raise ValueError("a sample of the batch lacks a feature that others have: let one embed node make all of them")
    return row
