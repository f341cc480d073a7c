"""ELLA's connector: as its authors released it, and the same numbers as its equations written out."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from training.modules.ella import PAPER_ELLA, Ella, EllaSizes, load_ella
from training.weights import Weights

SIZES = EllaSizes(text_dim=12, width=16, latents=5, layers=2, heads=4, time_channels=8)
TEXT, TIMES = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 500, 999])


def perturbed(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """With no parameter at what it begins with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module


def test_the_papers_has_66_820_608_parameters_10_628_352_a_block() -> None:
    with torch.device("meta"):
        ella = Ella(PAPER_ELLA)
    assert sum(p.numel() for p in ella.parameters()) == 66_820_608
    assert {sum(p.numel() for p in block.parameters()) for block in ella.blocks} == {10_628_352}
    assert len(ella.blocks) == 6


def test_its_parameters_have_the_released_names() -> None:
    names = set(Ella(SIZES).state_dict())
    block = [
        *(f"{layer}.{kind}" for layer in ("attn.out_proj", "mlp.c_fc", "mlp.c_proj") for kind in ("weight", "bias")),
        *(f"{norm}.linear.{kind}" for norm in ("ln_1", "ln_2", "ln_ff") for kind in ("weight", "bias")),
        "attn.in_proj_weight",
        "attn.in_proj_bias",
    ]
    ends = [f"{layer}.{kind}" for layer in ("proj_in", "time_aware_linear") for kind in ("weight", "bias")]
    assert names == {
        *(f"time_embedding.linear_{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")),
        *(f"connector.{end}" for end in ends),
        "connector.latents",
        *(f"connector.perceiver_blocks.{n}.{name}" for n in range(2) for name in block),
    }


def written_out(w: dict[str, torch.Tensor], text: torch.Tensor, t: torch.Tensor, heads: int) -> torch.Tensor:
    """The connector by its equations, from its weights by name."""

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    half = w["time_embedding.linear_1.weight"].shape[1] // 2
    angles = t[:, None].float() * torch.exp(-torch.arange(half) / half * torch.log(torch.tensor(10_000.0)))
    waves = torch.cat([angles.cos(), angles.sin()], 1)
    time = linear("time_embedding.linear_2", functional.silu(linear("time_embedding.linear_1", waves)))

    def adaln(name: str, x: torch.Tensor) -> torch.Tensor:
        shift, scale = linear(f"{name}.linear", functional.silu(time)).chunk(2, 1)
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / (variance + 1e-6).sqrt() * (1 + scale[:, None]) + shift[:, None]

    def attention(name: str, query: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        weights, biases = w[f"{name}.in_proj_weight"].chunk(3), w[f"{name}.in_proj_bias"].chunk(3)
        q, k, v = (
            (x @ weight.T + bias).unflatten(-1, (heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, seen, seen), weights, biases, strict=True)
        )
        scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        return linear(f"{name}.out_proj", (scores @ v).transpose(1, 2).flatten(2))

    states = linear("connector.proj_in", text)
    latents = w["connector.latents"] + linear("connector.time_aware_linear", functional.silu(time))[:, None]
    for n in range(2):
        block = f"connector.perceiver_blocks.{n}"
        query = adaln(f"{block}.ln_1", latents)
        seen = torch.cat([query, adaln(f"{block}.ln_2", states)], 1)
        latents = latents + attention(f"{block}.attn", query, seen)
        hidden = linear(f"{block}.mlp.c_fc", adaln(f"{block}.ln_ff", latents)).clamp(min=0) ** 2
        latents = latents + linear(f"{block}.mlp.c_proj", hidden)
    return latents


def test_it_computes_what_its_equations_say() -> None:
    ella = perturbed(Ella(SIZES))
    with torch.no_grad():
        found = ella(TEXT, TIMES)
        torch.testing.assert_close(found, written_out(ella.state_dict(), TEXT, TIMES, 4), atol=2e-5, rtol=1e-4)
    assert found.shape == (3, 5, 16)


def test_the_timestep_moves_latents_alone_at_first_as_norms_begin_plain() -> None:
    ella = Ella(SIZES)
    for block in ella.blocks:
        for norm in (block.ln_1, block.ln_2, block.ln_ff):
            assert not norm.linear.weight.any() and not norm.linear.bias.any()
            x, time = torch.randn(2, 3, 16), torch.randn(2, 16)
            torch.testing.assert_close(norm(x, time), functional.layer_norm(x, (16,), eps=1e-6))


def test_one_timestep_may_be_for_all() -> None:
    ella = perturbed(Ella(SIZES))
    with torch.no_grad():
        assert torch.equal(ella(TEXT, torch.tensor(40)), ella(TEXT, torch.tensor([40, 40, 40])))
        assert not torch.allclose(ella(TEXT, torch.tensor(40)), ella(TEXT, torch.tensor(900)))


def test_what_fills_up_is_read_like_text() -> None:
    ella = perturbed(Ella(SIZES))
    longer = torch.cat([TEXT, torch.zeros(3, 2, 12)], 1)
    with torch.no_grad():
        assert not torch.allclose(ella(TEXT, TIMES), ella(longer, TIMES))


def test_something_may_be_done_between_blocks() -> None:
    ella, seen = perturbed(Ella(SIZES)), []

    def between(number: int, latents: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        seen.append((number, tuple(latents.shape), tuple(time.shape)))
        return latents

    with torch.no_grad():
        assert torch.equal(ella(TEXT, TIMES, between), ella(TEXT, TIMES))
    assert seen == [(0, (3, 5, 16), (3, 16)), (1, (3, 5, 16), (3, 16))]


@pytest.mark.parametrize("file", ["ella-sd1.5-tsc-t5xl.safetensors", "model.safetensors"])
def test_released_and_exported_weights_are_taken(tmp_path: Path, file: str) -> None:
    theirs, ours = perturbed(Ella(SIZES), 1), Ella(SIZES)
    save_file(theirs.state_dict(), tmp_path / file)
    load_ella(ours, Weights(name=str(tmp_path)))
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in theirs.state_dict().items())


def test_weights_that_are_not_there_or_of_other_sizes_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        OSError, match=r"ella-sd1\.5-tsc-t5xl\.safetensors: no such file, nor model.*folder of the connector"
    ):
        load_ella(Ella(SIZES), Weights(name=str(tmp_path)))
    save_file({"connector.latents": torch.zeros(5, 16)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"is no connector of these sizes: connector\.perceiver_blocks\.0"):
        load_ella(Ella(SIZES), Weights(name=str(tmp_path)))
