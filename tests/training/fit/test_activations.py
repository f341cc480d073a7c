"""The estimate against what a real step of the same samples asks of the allocator."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.training_cases import Maker, recipe_of
from tests.training.batches import batch as make_batch
from tests.training.fit.processes import lines
from tests.training.fit.toy import Toy, ToyConfig, toy_recipe, toy_settings
from training.config import Recipe
from training.fit import preflight
from training.fit.activations import Activations, EstimateError, activations_of
from training.fit.fit import run_fit
from training.fit.groups import choose, outlined, set_modes
from training.fit.memory import memory_of
from training.fit.parallel import Layout, spread
from training.fit.shapes import CudaAutocast
from training.noise import Noise
from training.stream.collate import Batch
from training.stream.tensors import to_tensors

TOLERANCE = 0.08
"""Kernels' own scratch, which shapes do not show, is up to so much of so small a step."""

ALONE = Layout(mode="single", device=torch.device("cpu"), size=1)
ON_CUDA = Layout(mode="single", device=torch.device("cuda"), size=1)


def made_up(recipe: Recipe) -> Batch:
    """A batch of a recipe, or for the toy, which reads nothing but them, pictures."""
    if isinstance(recipe.family, ToyConfig):
        return make_batch([0] * recipe.micro_batch).batch
    return Maker(recipe).batches(1)[0]


def toy(**changes: Any) -> Recipe:
    """The toy at a width that makes its layers most of a step."""
    return toy_recipe(width=256, **changes)


def estimate(recipe: Recipe, layout: Layout = ALONE) -> int:
    return activations_of(recipe, made_up(recipe), layout).bytes


def asked_for(recipe: Recipe, batch: Batch) -> int:
    """The most bytes of the allocator that both passes of a real step had at once, beside what was there before."""
    family = recipe.family.build()
    choose(family, recipe.groups)
    spread(family, recipe, ALONE)
    set_modes(family)
    step = _step(family, recipe, batch)
    step()  # gradients are there from now on
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    assert profiler.profiler is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held, most = 0, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def _step(family: nn.Module, recipe: Recipe, batch: Batch) -> Callable[[], None]:
    tensors = to_tensors(batch)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            losses = family(tensors, Noise(0, 0, range(len(batch))))
        losses.total.backward()

    return run


def skip_where_bfloat16_is_emulated(precision: str, by_torch_too: bool = False) -> None:
    """Without instructions for it, oneDNN, or where that declines PyTorch, computes it in float32 of its own memory."""
    by_onednn = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    emulated = not torch.cpu._is_avx512_bf16_supported() if by_onednn else by_torch_too
    if precision == "bfloat16" and emulated:
        pytest.skip("this processor computes bfloat16 in float32, in memory of its own that is no activation")


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_estimate_is_what_a_step_takes(precision: str, recompute: bool) -> None:
    skip_where_bfloat16_is_emulated(precision)
    recipe = toy(precision=precision, recompute=recompute)
    assert estimate(recipe) == pytest.approx(asked_for(recipe, made_up(recipe)), rel=TOLERANCE)


SLOW = [
    pytest.param(name, precision, recompute, marks=pytest.mark.slow)
    for name in ("unimo_g_tiny", "lambda_eclipse_tiny", "mumu_tiny", "emma_tiny")
    for precision in ("float32", "bfloat16")
    for recompute in (False, True)
]


@pytest.mark.parametrize(("name", "precision", "recompute"), [("unimo_g_tiny", "bfloat16", True), *SLOW])
def test_so_it_is_for_families(name: str, precision: str, recompute: bool) -> None:
    skip_where_bfloat16_is_emulated(precision, by_torch_too=name == "lambda_eclipse_tiny")
    recipe = replace(recipe_of(name, None), precision=precision, recompute=recompute)
    assert estimate(recipe) == pytest.approx(asked_for(recipe, made_up(recipe)), rel=TOLERANCE)


def test_it_grows_with_samples_and_shrinks_by_recomputing() -> None:
    one, two = estimate(toy(micro_batch=64)), estimate(toy(micro_batch=128))
    assert two == pytest.approx(2 * one, rel=0.1)
    assert estimate(toy(micro_batch=128, recompute=True)) < 0.7 * two


@pytest.mark.slow
def test_models_of_any_size_are_gone_through_without_their_bytes() -> None:
    recipe = recipe_of("lambda_eclipse", None)
    recipe = replace(recipe, family=replace(recipe.family, clip=recipe_of("lambda_eclipse_tiny", None).family.clip))
    measured_gib = 20.162 - 0.519  # benchmarks/results/training_lambda_eclipse_cuda.json
    assert estimate(recipe, ON_CUDA) / 2**30 == pytest.approx(measured_gib, rel=0.02)


def test_norms_are_float32_where_autocast_on_cuda_has_them_so() -> None:
    norm, layer, x = nn.LayerNorm(4), nn.Linear(4, 4), torch.ones(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(layer(x)).dtype == torch.bfloat16
        with CudaAutocast():
            assert (layer(x).dtype, norm(layer(x)).dtype) == (torch.bfloat16, torch.float32)


def test_sharded_weights_are_gathered_in_bfloat16_so_that_none_are_copied() -> None:
    recipe = toy(precision="bfloat16", micro_batch=1, recompute=True)
    copies = 2 * sum(parameter.numel() for parameter in outlined(recipe).parameters() if parameter.ndim > 1)
    whole, shared = estimate(recipe, ON_CUDA), estimate(recipe, replace(ON_CUDA, mode="fsdp", size=2))
    assert 0.3 * copies < whole - shared < 1.1 * copies


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchingConfig(ToyConfig):
    def build(self, *, load: bool = True) -> nn.Module:
        return Branching(self)


class Branching(Toy):
    def forward(self, tensors, noise):
        losses = super().forward(tensors, noise)
        assert float(losses.total.detach()) > 0
        return losses


def test_a_family_that_branches_on_values_trains_without_an_estimate(data: Path, tmp_path: Path, capfd) -> None:
    recipe = replace(toy_recipe(steps=1), family=BranchingConfig())
    with pytest.raises(EstimateError, match="activations: not known before the first step"):
        estimate(recipe)
    run_fit(toy_settings(data, tmp_path / "run", recipe, show=True))
    assert [line["step"] for line in lines(tmp_path / "run")] == [1]
    assert "activations: not known before the first step" in capfd.readouterr().err


def test_it_is_told_before_the_first_step_with_what_to_change(
    data: Path, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = toy_recipe(steps=1)
    fixed = memory_of(outlined(recipe), recipe, 1)
    run_fit(toy_settings(data, tmp_path / "run", recipe, show=True))
    assert "for 8 samples at once" in capfd.readouterr().err
    monkeypatch.setattr(preflight, "available", lambda device: fixed.total)
    run_fit(toy_settings(data, tmp_path / "small", recipe, show=True))
    assert "take micro_batch=4, or recompute=True, or more ranks" in capfd.readouterr().err
    assert "take" not in Activations(bytes=5, samples=1).told(fixed, fixed.total + 5, recipe)
