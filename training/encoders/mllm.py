"""A multimodal language model as the reader of prompts: interleaved text and pictures in, states of all positions out.

Source: Li et al. 2024, "UNIMO-G", section 3.2.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from textwrap import shorten
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from training.encoders.layout import Layout, Written
from training.families.base import Conditions
from training.stream.prompts.base import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What a reader makes of prompts.

    Attributes:
        tokens: States.
        mask: Which of them are there; the others fill up shorter prompts at their ends.
        entity: 0: text; k: the prompt's k-th reference.
        is_cut: Which prompts were longer than the reader takes.
    """

    tokens: Float[Tensor, "prompt token state"]
    mask: Bool[Tensor, "prompt token"]
    entity: Int[Tensor, "prompt token"]
    is_cut: Bool[Tensor, " prompt"]


class MllmNetwork(Protocol):
    """A multimodal language model; a module. Its states do not depend on what follows, nor on padding at the end."""

    width: int
    """Of the states."""

    def __call__(
        self,
        ids: Int[Tensor, "prompt token"],
        mask: Bool[Tensor, "prompt token"],
        pictures: Float[Tensor, "picture 3 side side"],
    ) -> Float[Tensor, "prompt token state"]:
        """States after the last layer. ``pictures`` are normalised, in the order of their placeholders."""
        ...

    def blocks(self) -> Sequence[nn.Module]:
        """Its repeated blocks."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureForm:
    """The pictures that a network takes: squares of ``side`` pixels, normalised by channel."""

    side: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def normalised(
        self, pictures: UInt8[Tensor, "picture side side 3"], dtype: torch.dtype
    ) -> Float[Tensor, "picture 3 side side"]:
        """As the network takes them."""
        mean, deviation = (torch.tensor(value, device=pictures.device) for value in (self.mean, self.deviation))
        return ((pictures.float() / 255 - mean) / deviation).permute(0, 3, 1, 2).to(dtype)


class Mllm(nn.Module):
    """Reads prompts by a network.

    Without gradients if none of its parameters trains, and always without dropout.
    """

    def __init__(self, network: MllmNetwork, layout: Layout, form: PictureForm) -> None:
        super().__init__()
        self.network = network
        self.layout = layout
        self.form = form
        self.train(False)

    @property
    def width(self) -> int:
        """Of the states."""
        return self.network.width

    def train(self, mode: bool = True) -> "Mllm":
        """It stays in evaluation mode."""
        return super().train(False)

    def forward(self, conditions: Conditions, cut: bool = False) -> Encoded:
        """States of prompts.

        Args:
            conditions: Prompts; references that they show must have pixels.
            cut: Whether longer prompts are cut, at the end and never inside a picture.

        Raises:
            ValueError: If a prompt is too long and not to be cut, or a picture is missing or not of the right size.
        """
        written = [self.layout.write(prompt.interleaved) for prompt in conditions.prompts]
        if not cut:
            self._refuse_cut(written, conditions)
        ids, mask, entity = (padded.to(self._parameter.device) for padded in _padded(written))
        pictures = self._pictures(written, conditions)
        with self._gradients():
            tokens = self._states(ids, mask, pictures)
        is_cut = torch.tensor([row.is_cut for row in written], device=ids.device)
        return Encoded(tokens=tokens, mask=mask, entity=entity, is_cut=is_cut)

    def _states(
        self,
        ids: Int[Tensor, "prompt token"],
        mask: Bool[Tensor, "prompt token"],
        pictures: Float[Tensor, "picture 3 side side"],
    ) -> Float[Tensor, "prompt token state"]:
        """As the network has them.

        Without pictures it reads a blank one beside the prompts: ranks that share its blocks must all go through them.
        """
        if len(pictures):
            return self.network(ids, mask, pictures)
        blank = torch.tensor(self.layout.image, device=ids.device)
        room = 0, max(0, len(blank) - ids.shape[1]), 0, 1
        more_ids, more_mask = functional.pad(ids, room), functional.pad(mask, room)
        more_ids[-1, : len(blank)], more_mask[-1, : len(blank)] = blank, True
        side = self.form.side
        states = self.network(more_ids, more_mask, pictures.new_zeros(1, 3, side, side))
        return states[: len(ids), : ids.shape[1]]

    @property
    def _parameter(self) -> nn.Parameter:
        return next(self.parameters())

    def _gradients(self) -> AbstractContextManager[Any]:
        trains = any(parameter.requires_grad for parameter in self.parameters())
        return torch.set_grad_enabled(trains and torch.is_grad_enabled())

    def _refuse_cut(self, written: Sequence[Written], conditions: Conditions) -> None:
        for row, prompt in zip(written, conditions.prompts, strict=True):
            if row.is_cut:
                raise ValueError(
                    f"{_named(prompt)} has {row.length} tokens, its images {self.layout.tokens_per_image} each, "
                    f"but its reader takes {self.layout.max_tokens}: shorten it, or use fewer images"
                )

    def _pictures(self, written: Sequence[Written], conditions: Conditions) -> Float[Tensor, "picture 3 side side"]:
        """Those that made it into the sequences."""
        side, found = self.form.side, []
        for row, prompt, references in zip(written, conditions.prompts, conditions.references, strict=True):
            if row.references != len(references):
                raise ValueError(f"{_named(prompt)} shows {row.references} images, but comes with {len(references)}")
            for place, picture in enumerate(references[: row.kept]):
                found.append(_checked(picture, side, f"image {place} of {_named(prompt)}"))
        device, dtype = self._parameter.device, self._parameter.dtype
        if not found:
            return torch.empty(0, 3, side, side, device=device, dtype=dtype)
        return self.form.normalised(torch.stack(found).to(device), dtype)


def _named(prompt: Prompt) -> str:
    return f"the prompt {shorten(prompt.interleaved.render(), 60, placeholder=' …')!r}"


def _checked(picture: UInt8[Tensor, "height width 3"] | None, side: int, name: str) -> UInt8[Tensor, "side side 3"]:
    if picture is None:
        raise ValueError(f"{name} has no pixels, which its reader needs; features can't stand for them")
    if picture.shape != (side, side, 3):
        raise ValueError(
            f"{name} is {tuple(picture.shape)}, but its reader takes ({side}, {side}, 3): the stream's builder and "
            "the family must agree on side"
        )
    return picture


def _padded(written: Sequence[Written]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, which are there, and entities; filled up with zeros at the end."""
    length = max(len(row.ids) for row in written)
    ids, entity = torch.zeros(2, len(written), length, dtype=torch.int64)
    for number, row in enumerate(written):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        entity[number, : len(row.ids)] = torch.tensor(row.entity)
    lengths = torch.tensor([len(row.ids) for row in written])
    return ids, torch.arange(length) < lengths[:, None], entity
