"""λ-ECLIPSE's prior: its size, and against diffusers' class with the same weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from training.modules.prior import PAPER_PRIOR, Prior, PriorSizes
from training.modules.prior_weights import FILE, load_prior
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights

ensure_torchvision()

from diffusers import PriorTransformer  # noqa: E402

SIZES = PriorSizes(dim=24, text_tokens=7, heads=2, head_dim=8, layers=2)


def make_prior(seed: int = 0) -> Prior:
    """One in which everything matters: positions and query are not zero either."""
    torch.manual_seed(seed)
    prior = Prior(SIZES)
    for parameter in (prior.positional_embedding, prior.prd_embedding):
        nn.init.normal_(parameter)
    return prior


def inputs(count: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.arange(SIZES.text_tokens) < torch.tensor([7, 4, 2])[:count, None]
    return torch.randn(count, SIZES.text_tokens, SIZES.dim), mask, torch.randn(count, 3, SIZES.dim)


class Said(nn.Module):
    """Says what it was given, whatever it is asked."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.value


def reference(prior: Prior, pooled: torch.Tensor) -> PriorTransformer:
    """diffusers' class with these weights: time there is pooled text here, pooled text there is control here."""
    theirs = PriorTransformer(
        num_attention_heads=SIZES.heads,
        attention_head_dim=SIZES.head_dim,
        num_layers=SIZES.layers,
        embedding_dim=SIZES.dim,
        num_embeddings=SIZES.text_tokens,
    ).eval()
    state = {name: value for name, value in prior.state_dict().items() if not name.startswith("embedding_")}
    state |= {f"embedding_proj.{part}": getattr(prior.embedding_control, part) for part in ("weight", "bias")}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected and all(name.startswith("time_embedding.") for name in missing)
    theirs.time_embedding = Said(prior.embedding_proj(pooled))
    return theirs


def test_the_papers_prior_has_its_34_million_parameters() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in Prior(PAPER_PRIOR).parameters()) == 34_849_536


def test_values_and_gradients_are_those_of_diffusers() -> None:
    prior, (states, mask, vectors) = make_prior().eval(), inputs()
    control, pooled, noise = vectors.unbind(1)
    theirs = reference(prior, pooled)
    ours_states, their_states = states.clone().requires_grad_(), states.clone().requires_grad_()
    ours = prior(ours_states, mask, vectors)
    other = theirs(noise, 0, control, their_states, mask).predicted_image_embedding
    # The same operations in float32; only the order of the auxiliary projections differs.
    torch.testing.assert_close(ours, other, atol=1e-6, rtol=1e-5)
    ours.square().sum().backward()
    other.square().sum().backward()
    torch.testing.assert_close(ours_states.grad, their_states.grad, atol=1e-5, rtol=1e-4)


def test_what_fills_up_a_text_does_not_matter() -> None:
    prior, (states, mask, vectors) = make_prior(), inputs()
    other = torch.where(mask[..., None], states, torch.full_like(states, 9.0))
    torch.testing.assert_close(prior(states, mask, vectors), prior(other, mask, vectors), atol=1e-6, rtol=0)


@pytest.mark.parametrize("place", range(3), ids=["control", "pooled", "noise"])
def test_control_pooled_text_and_noise_each_matter(place: int) -> None:
    prior, (states, mask, vectors) = make_prior(), inputs()
    changed = vectors.clone()
    changed[:, place] += 1
    assert (prior(states, mask, vectors) - prior(states, mask, changed)).abs().max() > 1e-3


def test_released_weights_load_and_those_of_time_are_left(tmp_path: Path) -> None:
    prior = make_prior()
    save_file({**prior.state_dict(), "time_embedding.linear_1.weight": torch.zeros(2, 2)}, tmp_path / FILE)
    other = Prior(SIZES)
    load_prior(other, Weights(name=str(tmp_path)))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in prior.state_dict().items())


def test_weights_of_another_prior_are_refused(tmp_path: Path) -> None:
    save_file({"proj_in.weight": torch.zeros(2, 2)}, tmp_path / FILE)
    with pytest.raises(ValueError, match="is no prior of these sizes"):
        load_prior(make_prior(), Weights(name=str(tmp_path)))
    with pytest.raises(OSError, match="no such file"):
        load_prior(make_prior(), Weights(name=str(tmp_path), subfolder="elsewhere"))
