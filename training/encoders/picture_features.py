"""What a condition's pictures are to the blocks that read it: by features that the engine kept, or by CLIP live."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import shorten

import torch
from jaxtyping import Float
from torch import Tensor

from training.encoders.clip_pictures import ClipPictures
from training.families.base import Conditions
from training.modules.agpr import EmmaCondition
from training.stream.prompts.base import Prompt, Reference


@dataclass(frozen=True, slots=True)
class PictureFeatures:
    """Of each sample the features of a condition, zeros where it has none.

    Attributes:
        vectors: float32.
        local: float32; ``None`` where the condition has no local features.
        is_there: 1 where the sample has the condition, else 0.
    """

    vectors: Float[Tensor, "sample dim"]
    local: Float[Tensor, "sample token local"] | None
    is_there: Float[Tensor, " sample"]


Row = tuple[Float[Tensor, " dim"], Float[Tensor, "token local"] | None]
"""A picture's vector and local features."""


@dataclass(frozen=True, slots=True)
class PictureReader:
    """Reads a condition.

    Attributes:
        condition: Which.
        place: Of its picture among a prompt's.
        clip: Gives CLIP, for pictures without features.
    """

    condition: EmmaCondition
    place: int
    clip: Callable[[], ClipPictures]

    def read(self, conditions: Conditions, device: torch.device) -> PictureFeatures:
        """Its features of all samples.

        Raises:
            ValueError: If a picture has neither features nor pixels, or features of another width or length.
        """
        rows = [self._row(conditions, number) for number in range(len(conditions))]
        chosen = self.condition
        vectors = [row[0] if row else torch.zeros(chosen.vector_dim) for row in rows]
        local = None
        if chosen.local_dim is not None:
            nothing = torch.zeros(chosen.local_tokens, chosen.local_dim)
            local = _stacked([nothing if row is None or row[1] is None else row[1] for row in rows], device)
        is_there = torch.tensor([float(row is not None) for row in rows]).to(device)
        return PictureFeatures(_stacked(vectors, device), local, is_there)

    def _row(self, conditions: Conditions, number: int) -> Row | None:
        prompt = conditions.prompts[number]
        if self.place >= len(prompt.references):
            return None
        reference = prompt.references[self.place]
        kept = self._kept(conditions, number, reference)
        return self._checked(self._seen(conditions, number, reference) if kept is None else kept, prompt)

    def _kept(self, conditions: Conditions, number: int, reference: Reference) -> Row | None:
        """As the engine kept them; ``None`` if it didn't keep all of them."""
        vector, tokens = (
            None if (feature := conditions.features.get(self._name(reference, output))) is None else feature[number]
            for output in ("vector", "tokens")
        )
        if vector is None or (tokens is None and self.condition.local_dim is not None):
            return None
        return vector, tokens if self.condition.local_dim is not None else None

    def _seen(self, conditions: Conditions, number: int, reference: Reference) -> Row:
        pixels = conditions.references[number][self.place]
        outputs = ("vector",) if self.condition.local_dim is None else ("vector", "tokens")
        names = " and ".join(self._name(reference, output) for output in outputs)
        shown = f"the condition {self.condition.name} of {_named(conditions.prompts[number])}"
        if self.condition.encoder is None:
            raise ValueError(
                f"{shown} lacks its features {names}, and Inlay's trainer has no network of {self.condition.network} "
                "to read pictures with: let an embed node of the manifest make them; generate, which knows pictures "
                "alone, can't draw from this condition"
            )
        if pixels is None:
            raise ValueError(f"{shown} has neither its features {names} nor pixels to be read live")
        seen = self.clip().see([pixels])
        return seen.vectors[0], seen.tokens[0] if self.condition.local_dim is not None else None

    def _name(self, reference: Reference, output: str) -> str:
        return f"{reference.name}_{self.condition.network}_{output}"

    def _checked(self, row: Row, prompt: Prompt) -> Row:
        vector, local = row
        chosen = self.condition
        wanted = [(chosen.vector_dim,), (chosen.local_tokens, chosen.local_dim)]
        for found, shape in zip((vector, local), wanted, strict=True):
            if found is not None and tuple(found.shape) != shape:
                raise ValueError(
                    f"features of {chosen.network} of {_named(prompt)} are {tuple(found.shape)}, the condition "
                    f"{chosen.name} takes {shape}: name the network in the recipe whose features the data holds, or "
                    "give the condition their sizes"
                )
        return row


def _named(prompt: Prompt) -> str:
    return f"the prompt {shorten(prompt.interleaved.render(), 60, placeholder=' …')!r}"


def _stacked(rows: Sequence[Tensor], device: torch.device) -> Tensor:
    with torch.autocast(device.type, enabled=False):  # in bfloat16 it refuses to stack float16
        return torch.stack([row.to(device).float() for row in rows])
