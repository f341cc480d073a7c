"""What gives a picture a number: CLIP's cosine with a text, or a head on CLIP's vector of the picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from stages.models.clip import ImageTextModel
from stages.pixels import Pixels


class Scorer(Protocol):
    """Gives pictures, each with its text, a number each; NaN where there is none. Pairs do not influence each other."""

    def __call__(self, images: Sequence[Pixels], texts: Sequence[str]) -> list[float]:
        """A number for each picture."""
        ...


@dataclass(frozen=True, slots=True)
class CosineScorer:
    """How well picture and text go together: the cosine of their vectors, in [-1, 1], times ``scale``."""

    model: ImageTextModel
    scale: float = 1

    def __call__(self, images: Sequence[Pixels], texts: Sequence[str]) -> list[float]:
        """The scaled cosine of each picture and its text."""
        cosines = (self.model.embed_images(images) * self.model.embed_texts(texts)).sum(axis=-1)
        return [self.scale * float(cosine) for cosine in cosines]


class HeadScorer:
    """What a head says of the picture; texts are not looked at."""

    def __init__(self, model: ImageTextModel, head: nn.Sequential, device: str) -> None:
        """Put a head on a model.

        Raises:
            ValueError: If the head is for vectors of another width.
        """
        self._model, self._head, self._device = model, head, device
        probe = model.embed_images([np.zeros((1, 1, 3), np.uint8)]).shape[1]
        width = next(layer.in_features for layer in head if isinstance(layer, nn.Linear))
        if width != probe:
            raise ValueError(f"the head is for vectors of {width} numbers, the model gives {probe}")

    @torch.inference_mode()
    def __call__(self, images: Sequence[Pixels], texts: Sequence[str]) -> list[float]:
        """The head's number for each picture."""
        vectors = torch.from_numpy(self._model.embed_images(images)).to(self._device)
        # One at a time: a matrix product takes its sums in another order for another number of rows.
        return [float(self._head(vector[None])) for vector in vectors]
