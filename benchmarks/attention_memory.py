"""What attention maps cost in memory at UNIMO-G's own size: 4.029 billion parameters, 16 heads, pictures of 512 px.

``python -m benchmarks.attention_memory`` sums what a forward pass keeps for the backward one, without maps, with maps
by the membership trick, and with maps by a softmax whose probabilities are kept. Tensors are shapes without numbers, so
that it takes seconds and no memory, and the figures are exact. With ``--device cuda`` the passes are run, weights in
bfloat16, and the allocator's peak over what weights and gradients take is told.
"""

import gc
import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from training.modules.attention_loss import EntityMasks, attention_loss
from training.modules.attention_maps import AttnCapture, membership
from training.modules.unet import PAPER_UNET, build_unet

LATENT, ENTITIES, PER_IMAGE = 64, 2, 32
Device = Annotated[str, typer.Option(help="cpu: shapes alone; cuda: measured")]
Results = Annotated[Path | None, typer.Option(help="JSON file for the figures")]


class NaiveCapture(AttnCapture):
    """Keeps the probabilities of all places and tokens."""

    def take(self, query: Tensor, key: Tensor, mask: Tensor | None) -> None:
        """The maps of a layer."""
        if query.shape[2] > self._most:
            return
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + (0 if mask is None else mask)
        maps = scores.softmax(-1) @ self._membership.columns.to(query.dtype)[:, None]
        side = int(query.shape[2] ** 0.5)
        self.maps.append(maps.float().mean(1).transpose(1, 2).unflatten(2, (side, side)))


WAYS: Mapping[str, Callable[..., AttnCapture] | None] = {"none": None, "trick": AttnCapture, "naive": NaiveCapture}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one way of taking maps costs.

    Attributes:
        way: How maps are taken.
        tokens: In the prompt.
        most_places: Of the maps taken.
        mib: Kept for the backward pass, or at the peak.
        more: Than without maps, as a share.
        seconds: Of both passes; on a GPU.
    """

    way: str
    tokens: int
    most_places: int
    mib: float
    more: float
    seconds: float | None


def main(device: Device = "cpu", results: Results = None) -> None:
    """Measure and tell."""
    measure = _measured if device == "cuda" else _counted
    with nullcontext() if device == "cuda" else FakeTensorMode():
        unet = _unet(device)
        costs = [
            cost for tokens in (128, 512) for most in (2048, 4096) for cost in _compared(unet, tokens, most, measure)
        ]
    table = Table("maps", "tokens", "most places", "MiB a sample", "more", "s")
    for cost in costs:
        seconds = "" if cost.seconds is None else f"{cost.seconds:.2f}"
        table.add_row(
            cost.way, str(cost.tokens), str(cost.most_places), f"{cost.mib:,.0f}", f"{cost.more:.1%}", seconds
        )
    Console().print(table)
    if results:
        kind = torch.cuda.get_device_name() if device == "cuda" else "shapes"
        about = {"date": datetime.now(UTC).date().isoformat(), "device": kind, "torch": torch.__version__}
        results.write_text(json.dumps({**about, "costs": [asdict(cost) for cost in costs]}, indent=1) + "\n")


def _unet(device: str) -> Any:
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return build_unet(PAPER_UNET)
    finally:
        torch.set_default_dtype(torch.float32)


def _compared(unet: Any, tokens: int, most: int, measure: Callable[..., tuple[float, float | None]]) -> list[Cost]:
    found, plain = [], 0.0
    for way in WAYS:
        mib, seconds = measure(unet, way, tokens, most)
        plain = plain or mib
        found.append(Cost(way=way, tokens=tokens, most_places=most, mib=mib, more=mib / plain - 1, seconds=seconds))
    return found


def _counted(unet: Any, way: str, tokens: int, most: int) -> tuple[float, None]:
    """Bytes of all that autograd keeps, each memory once and parameters not."""
    own = {parameter.untyped_storage()._cdata for parameter in unet.parameters()}
    held: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in own:
            held[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        _loss(unet, way, tokens, most)
    return sum(tensor.untyped_storage().nbytes() for tensor in held.values()) / 2**20, None


def _measured(unet: Any, way: str, tokens: int, most: int) -> tuple[float, float]:
    """The peak over what is there anyway, and the time; the second time, as the first warms up."""
    for _ in range(2):
        unet.zero_grad(set_to_none=False)
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        before, began = torch.cuda.memory_allocated(), time.perf_counter()
        _loss(unet, way, tokens, most).backward()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    return (torch.cuda.max_memory_allocated() - before) / 2**20, seconds


def _loss(unet: Any, way: str, tokens: int, most: int) -> Tensor:
    """The loss of one sample whose prompt ends with its images."""
    device = unet.device
    entity = torch.zeros(1, tokens, dtype=torch.int64, device=device)
    for number in range(ENTITIES):
        entity[:, tokens - (number + 1) * PER_IMAGE : tokens - number * PER_IMAGE] = number + 1
    make = WAYS[way]
    capture = make(membership(entity, ENTITIES, "sum"), (LATENT, LATENT), most) if make else None
    with capture or nullcontext():
        predicted = unet(
            torch.randn(1, 4, LATENT, LATENT, device=device, dtype=torch.bfloat16),
            torch.full((1,), 500, device=device),
            torch.randn(1, tokens, PAPER_UNET.context_dim, device=device, dtype=torch.bfloat16),
            encoder_attention_mask=torch.ones(1, tokens, dtype=torch.bool, device=device),
            cross_attention_kwargs=None if capture is None else {"capture": capture},
        ).sample
    loss = predicted.float().square().mean()
    if capture is None:
        return loss
    masks = torch.rand(1, ENTITIES, 8 * LATENT, 8 * LATENT, device=device)
    wanted = EntityMasks(masks, torch.ones(1, ENTITIES, dtype=torch.bool, device=device))
    return loss + 0.01 * attention_loss(capture.maps, wanted).mean()


if __name__ == "__main__":
    typer.run(main)
