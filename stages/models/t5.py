"""The encoder of T5, as transformers has it."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from stages.base import ModelRef
from stages.models.pretrained import load_pretrained
from stages.models.tokens import Tokens, hub_ids, load_hub_tokenizer
from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import T5EncoderModel  # noqa: E402

_LONGEST = 4096
"""T5 has no last position; this bounds what one caption may cost."""


@dataclass(frozen=True, slots=True)
class T5:
    """T5's encoder. Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning"."""

    model: T5EncoderModel

    def __call__(self, given: Tensor) -> Mapping[str, Tensor]:
        """``states``, after the final norm, (text, token, channel)."""
        ids, mask = given.unbind(1)
        return {"states": self.model(input_ids=ids, attention_mask=mask).last_hidden_state}


def load_t5(ref: ModelRef, device: str) -> tuple[T5, Tokens]:
    """The encoder of a T5 from the hub or a folder, and how it takes texts.

    Raises:
        ValueError: If it is not there, damaged, no safetensors, of another architecture, or lacks its tokenizer.
    """
    model, tokenizer = load_pretrained(T5EncoderModel, ref, device, ("t5",)), load_hub_tokenizer(ref)
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer of {ref.name!r} has {len(tokenizer)} tokens, the network knows {model.config.vocab_size}"
        )
    return T5(model), Tokens(tokenize=hub_ids(tokenizer), pad=model.config.pad_token_id or 0, length=_LONGEST)
