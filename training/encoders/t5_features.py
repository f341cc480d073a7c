"""The states of prompts' texts: as the engine kept them, or by T5 live."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from training.encoders.t5 import T5States, T5Text
from training.families.base import Conditions


@dataclass(frozen=True, slots=True)
class T5Features:
    """Features of texts.

    Attributes:
        conditions: The prompts, with their features.
        name: Of the feature of the states.
        length: Tokens that they must have.
        width: Channels that they must have.
        empty: The states of the empty text, if they are known; prompts whose text was dropped have these.
        t5: Gives the encoder, for texts without features.
    """

    conditions: Conditions
    name: str
    length: int
    width: int
    empty: Float[Tensor, "token state"] | None
    t5: Callable[[], T5Text]

    def states(self, device: torch.device) -> T5States:
        """The states of all texts, float32.

        Raises:
            ValueError: If features are of another length or width.
        """
        texts = [prompt.text for prompt in self.conditions.prompts]
        kept = [self._kept(number, text) for number, text in enumerate(texts)]
        asked = list(dict.fromkeys(text for text, row in zip(texts, kept, strict=True) if row is None))
        live = self._read(asked)
        found = [live[text] if row is None else (row, False) for text, row in zip(texts, kept, strict=True)]
        states = _stacked([row for row, _ in found], device)
        return T5States(states, torch.tensor([is_cut for _, is_cut in found], device=device))

    def _read(self, texts: Sequence[str]) -> Mapping[str, tuple[Float[Tensor, "token state"], bool]]:
        """By text its states, and whether it was cut."""
        if not texts:
            return {}
        read = self.t5().read(texts)
        return dict(zip(texts, zip(read.states, read.is_cut.tolist(), strict=True), strict=True))

    def _kept(self, number: int, text: str) -> Float[Tensor, "token state"] | None:
        """The states of a text that need not be asked for."""
        if not text:
            return self.empty
        feature = self.conditions.features.get(self.name)
        row = None if feature is None else feature[number]
        return None if row is None else self._checked(row)

    def _checked(self, row: Tensor) -> Float[Tensor, "token state"]:
        if row.shape[-1] != self.width:
            raise ValueError(
                f"{self.name} has {row.shape[-1]} channels, the connector takes {self.width}: give the connector the "
                "width of the T5 whose features the data holds, or the data features of the recipe's T5"
            )
        if len(row) != self.length:
            raise ValueError(
                f"{self.name} has {len(row)} tokens, the connector reads {self.length}, those that fill up too: set "
                f"padding: true and max_length: {self.length} in the embed node that makes it, or have the recipe read "
                "texts live, without this feature"
            )
        return row


def _stacked(rows: Sequence[Float[Tensor, "token state"]], device: torch.device) -> Float[Tensor, "text token state"]:
    with torch.autocast(device.type, enabled=False):  # in bfloat16 it refuses to stack float16
        return torch.stack([row.to(device).float() for row in rows])
