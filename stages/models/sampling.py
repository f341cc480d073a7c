"""What happens to a step's scores before a token is chosen: sampling that knows no neighbours, and a look for NaN."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import LogitsProcessor  # noqa: E402


class NanWatch(LogitsProcessor):
    """Notes the rows whose scores are not all numbers; they go on as if nothing were, and are to be thrown away.

    Attributes:
        is_nan: What was seen so far, (row,).
    """

    def __init__(self, rows: int, device: str) -> None:
        self.is_nan = torch.zeros(rows, dtype=torch.bool, device=device)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores, (row, token), with 0 for NaN."""
        self.is_nan |= scores.isnan().any(dim=1)
        return scores.where(~scores.isnan(), 0)


class SeededSampler(LogitsProcessor):
    """Draws each row's token by random numbers of its own, so that rows do not depend on their neighbours.

    It leaves one token a row, which greedy search then takes: transformers' own sampling draws for all rows at once.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", for ``top_p``.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float) -> None:
        """Start every row's random numbers.

        Args:
            seeds: One a row.
            temperature: Above 0; scores are divided by it.
            top_p: In (0, 1]; the likeliest tokens that together are at least so probable are drawn from.
        """
        self._rngs = list(map(random.Random, seeds))
        self._temperature = temperature
        self._top_p = top_p

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores, (row, token), of 0 for the token drawn and -inf for all others."""
        # In float64, what is drawn stays below the sum: a token of probability 0 is never reached.
        likely = (scores.double() / self._temperature).softmax(dim=1)
        likely, tokens = likely.sort(dim=1, descending=True, stable=True)
        before = likely.cumsum(dim=1) - likely
        reach = likely.where(before < self._top_p, 0).cumsum(dim=1)
        drawn = reach.new_tensor([[rng.random()] for rng in self._rngs]) * reach[:, -1:]
        place = (reach <= drawn).sum(dim=1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens.gather(1, place), 0)
