"""Small networks on CLIP's unit vectors of pictures: LAION's aesthetic predictors and its NSFW detectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor, nn

from stages.base import ModelRef
from stages.models.checkpoint import read_checkpoint

Judges: TypeAlias = Literal["aesthetic", "nsfw"]


@dataclass(frozen=True, slots=True)
class Form:
    """What a head is made of.

    Attributes:
        linears: Its linear layers in order, as its checkpoint names them.
        bends: How many of the first of them are followed by a ReLU.
        is_probability: Its input is first normalised by a mean and a variance in the checkpoint, and its output goes
            through a sigmoid.
    """

    linears: tuple[str, ...]
    bends: int = 0
    is_probability: bool = False

    @property
    def names(self) -> frozenset[str]:
        """Of all weights."""
        parts = {f"{linear}{part}" for linear in self.linears for part in ("weight", "bias")}
        return frozenset(parts | ({"norm.mean", "norm.variance"} if self.is_probability else set()))


FORMS: Mapping[Judges, Sequence[Form]] = {
    "aesthetic": (
        Form(("",)),  # LAION-AI/aesthetic-predictor: ViT-B/32, B/16, L/14
        # christophschuhmann/improved-aesthetic-predictor, linearMSE: LAION-Aesthetics V2, on ViT-L/14
        Form(("layers.0.", "layers.2.", "layers.4.", "layers.6.", "layers.7.")),
    ),
    "nsfw": (  # LAION-AI/CLIP-based-NSFW-Detector: ViT-B/32, L/14, H/14
        Form(("linear_1.", "linear_2.", "linear_3."), bends=2, is_probability=True),
        Form(("linear_1.", "linear_2.", "linear_3.", "linear_4."), bends=3, is_probability=True),
        Form(tuple(f"layers.{number}." for number in (0, 3, 6, 9, 12, 15, 16)), bends=5),
    ),
}
"""The heads that were released; dropout, which does nothing here, is left out."""


class Standardise(nn.Module):
    """To mean 0 and variance 1 over the data the head was trained on."""

    mean: Tensor
    variance: Tensor

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)

    def forward(self, vectors: Tensor) -> Tensor:
        """The vectors, standardised."""
        return (vectors - self.mean) / (self.variance.sqrt() + 1e-10)


def load_head(judges: Judges, ref: ModelRef, device: str) -> nn.Sequential:
    """A head from its checkpoint file, in evaluation mode, float32.

    Args:
        judges: What it is asked for.
        ref: The file, as released (``sa_0_4_vit_l_14_linear.pth`` and the like), or in safetensors.
        device: Where it goes.

    Raises:
        ValueError: If it is not there, damaged, a pickle of more than tensors, or none of :data:`FORMS`.
    """
    state = read_checkpoint(ref, f"{judges} head")
    try:
        head = build_head(judges, state)
    except ValueError as error:
        raise ValueError(f"{ref.name} is no {judges} head: {error}") from error
    return head.eval().requires_grad_(False).to(device)


def build_head(judges: Judges, state: Mapping[str, Tensor]) -> nn.Sequential:
    """The head that these weights make.

    Raises:
        ValueError: If their names or shapes are none of those released.
    """
    for form in FORMS[judges]:
        if form.names == set(state):
            return nn.Sequential(*_parts(form, {name: tensor.float() for name, tensor in state.items()}))
    names = " or ".join(", ".join(sorted(form.names)) for form in FORMS[judges])
    raise ValueError(f"its weights are {', '.join(sorted(map(str, state)))}, not {names}")


def _parts(form: Form, state: Mapping[str, Tensor]) -> list[nn.Module]:
    parts: list[nn.Module] = []
    if form.is_probability:
        parts.append(Standardise(state["norm.mean"], state["norm.variance"]))
    width = None
    for number, name in enumerate(form.linears):
        parts.append(_linear(state[f"{name}weight"], state[f"{name}bias"], width))
        width = len(state[f"{name}bias"])
        parts += [nn.ReLU()] * (number < form.bends)
    if width != 1:
        raise ValueError(f"it gives {width} numbers, not one")
    return parts + [nn.Sigmoid()] * form.is_probability


def _linear(weight: Tensor, bias: Tensor, width: int | None) -> nn.Linear:
    outputs, inputs = weight.shape if weight.ndim == 2 else (0, 0)
    if bias.shape != (outputs,) or (width or inputs) != inputs:
        raise ValueError(f"a layer of {tuple(weight.shape)} with {tuple(bias.shape)} does not follow one of {width}")
    layer = nn.Linear(inputs, outputs, device="meta")
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer
