"""Memory that is counted, against tensors that are there."""

import io

import pytest
import torch
from rich.console import Console

from tests.training.fit.toy import LORA, toy_recipe
from training.config import Recipe
from training.fit.ema import Ema
from training.fit.groups import make_optimiser, trainables
from training.fit.memory import (
    GIB,
    Fixed,
    Ranks,
    TooLittleMemoryError,
    capacity,
    check_memory,
    explained,
    fixed_memory,
    memory_table,
)
from training.fit.runs import build
from training.recipes import RECIPES


def size(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("recipe", [toy_recipe(), toy_recipe(groups=LORA), toy_recipe(ema=None)])
def test_what_is_fixed_is_what_a_run_holds(recipe: Recipe) -> None:
    family, trained = build(recipe)
    optimiser = make_optimiser(family, trained, recipe.optimiser)
    ema = None if recipe.ema is None else Ema(trainables(family), recipe.ema)
    for parameter in trainables(family).values():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    moments = [state[name] for state in optimiser.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert fixed_memory(recipe, Ranks()) == Fixed(
        frozen=size([p for p in family.parameters() if not p.requires_grad]),
        weights=size(list(trainables(family).values())),
        gradients=size([p.grad for p in trainables(family).values() if p.grad is not None]),
        moments=size(moments),
        averages=size(list(ema.averages.values())) if ema else 0,
        gathered=0,
        buffers=size(list(family.buffers())),
    )


def test_ranks_share_what_trains_unless_each_has_a_copy() -> None:
    one, four = fixed_memory(toy_recipe(), Ranks()), fixed_memory(toy_recipe(), Ranks(size=4))
    assert one.weights // 4 - 4 < four.weights <= one.weights // 4
    assert four.frozen == one.frozen, "what is frozen outside of units is on every rank"
    assert four.gathered > 0
    assert fixed_memory(toy_recipe(), Ranks(size=4, mode="ddp")) == one


def test_the_prior_of_full_size_takes_what_its_parameters_say() -> None:
    fixed = fixed_memory(RECIPES["lambda_eclipse"](), Ranks())
    assert fixed.weights == fixed.gradients == fixed.moments // 2
    assert 0.1 < fixed.weights / GIB < 0.15


def test_what_can_not_fit_is_said_with_what_would_help() -> None:
    fixed = Fixed(frozen=0, weights=3 * GIB, gradients=3 * GIB, moments=6 * GIB, averages=0, gathered=0, buffers=0)
    check_memory(fixed, 12 * GIB, Ranks())
    with pytest.raises(TooLittleMemoryError, match=r"needs 12\.0 GiB .*has 11\.0 GiB: take more GPUs"):
        check_memory(fixed, 11 * GIB, Ranks())
    with pytest.raises(TooLittleMemoryError, match="take mode fsdp"):
        check_memory(fixed, 11 * GIB, Ranks(size=2, mode="ddp"))


def test_a_step_that_does_not_fit_says_what_to_change() -> None:
    with pytest.raises(TooLittleMemoryError, match="micro_batch=4, recompute=True"), explained(toy_recipe()):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")


def test_the_machine_has_some_memory() -> None:
    assert capacity(torch.device("cpu")) > 2**26


def test_the_table_has_a_row_a_world() -> None:
    sink = io.StringIO()
    Console(file=sink, width=160).print(memory_table(toy_recipe(), sizes=(1, 2, 64)))
    assert [row in sink.getvalue() for row in ("│ 1 ", "│ 2 ", "│ 64 ")] == [True] * 3
