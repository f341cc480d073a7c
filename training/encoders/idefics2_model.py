"""Idefics2 without its perceiver: every patch of a picture is a token of the language model.

Source: Berman and Peysakhovich 2024, "MUMU", on its architecture. To be imported where it is used: it brings
transformers.
"""

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from training.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import Idefics2Model  # noqa: E402


class Idefics2WithoutPerceiver(Idefics2Model):
    """transformers' model; of published weights those of the perceiver and of the head are left out."""

    _keys_to_ignore_on_load_unexpected = [r"perceiver_resampler", r"lm_head"]  # noqa: RUF012  (transformers' own name and kind)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.add_module("connector", Projection(self.connector.modality_projection))

    @classmethod
    def from_config(cls, config: Any) -> "Idefics2WithoutPerceiver":
        """With fresh weights, as transformers' auto classes have it."""
        made: Idefics2WithoutPerceiver = cls._from_config(config)
        return made


class Projection(nn.Module):
    """A connector that ends with the modality projection, a gated MLP; patches that are padding stay too."""

    def __init__(self, modality_projection: nn.Module) -> None:
        super().__init__()
        self.modality_projection = modality_projection

    def forward(
        self,
        image_hidden_states: Float[Tensor, "picture patch vision"],
        attention_mask: Bool[Tensor, "picture patch"] | None = None,
    ) -> Float[Tensor, "picture patch state"]:
        """Patches as tokens of the language model."""
        return self.modality_projection(image_hidden_states)
