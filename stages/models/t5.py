"""The encoder of T5, as transformers has it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.base import ModelRef
from stages.models.pretrained import load_pretrained
from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import T5EncoderModel  # noqa: E402


@dataclass(frozen=True, slots=True)
class T5:
    """T5's encoder. Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning"."""

    model: T5EncoderModel

    def __call__(self, given: Tensor) -> Mapping[str, Tensor]:
        """``states``, after the final norm, (text, token, channel)."""
        ids, mask = given.unbind(1)
        return {"states": self.model(input_ids=ids, attention_mask=mask).last_hidden_state}

    @property
    def pad(self) -> int:
        """Id that fills up."""
        return int(self.model.config.pad_token_id or 0)


def load_t5(ref: ModelRef, device: str, dtype: torch.dtype) -> T5:
    """The encoder of a T5 from the hub or a folder.

    Raises:
        ValueError: If it is not there, damaged, no safetensors, or of another architecture.
    """
    return T5(load_pretrained(T5EncoderModel, ref, device, ("t5",), dtype))
