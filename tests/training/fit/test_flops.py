"""FLOPs, against PyTorch's own counter and by hand."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from training.fit.flops import Meter, peak_flops


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(8 * 16, 4))


def count(module: nn.Module, inputs: torch.Tensor) -> int:
    meter = Meter(torch.device("cpu"), peak=1e12)
    with meter.counted():
        module(inputs).square().mean().backward()
    return meter.flops


def test_a_step_counts_as_in_pytorch() -> None:
    module, inputs = network(), torch.randn(2, 3, 4, 4)
    with FlopCounterMode(display=False) as theirs:
        module(inputs).square().mean().backward()
    assert count(module, inputs) == theirs.get_total_flops() > 0


def test_a_layer_counts_six_operations_a_weight_and_sample() -> None:
    inputs = torch.randn(5, 8, requires_grad=True)
    assert count(nn.Linear(8, 4, bias=False), inputs) == 6 * 5 * 8 * 4


def test_what_is_frozen_counts_where_it_is_used() -> None:
    def with_frozen(inputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            context = torch.ones(5, 8) @ torch.ones(8, 8)
        return (inputs + context).sum(1)

    module = nn.Identity()
    module.forward = with_frozen  # type: ignore[method-assign]
    assert count(module, torch.randn(5, 8, requires_grad=True)) == 2 * 5 * 8 * 8


def test_what_is_computed_again_to_save_memory_does_not_count() -> None:
    module, inputs = network(), torch.randn(2, 3, 4, 4)
    plain = count(module, inputs)
    module.forward = partial(checkpoint, module.forward, use_reentrant=False)  # type: ignore[method-assign]
    with FlopCounterMode(display=False) as theirs:
        module(inputs).square().mean().backward()
    assert count(module, inputs) == plain < theirs.get_total_flops()


def test_the_first_step_is_counted_and_no_other() -> None:
    meter = Meter(torch.device("cpu"), peak=1e12)
    for size in (2, 4):
        with meter.counted():
            torch.ones(size, size) @ torch.ones(size, size)
    assert meter.flops == 2 * 2**3
    assert meter.figures(step_s=0.5)["mfu"] == 2 * 2**3 / 0.5 / 1e12


def test_where_no_peak_is_known_nothing_is_counted() -> None:
    meter = Meter.of(torch.device("cpu"))
    with meter.counted():
        torch.ones(2, 2) @ torch.ones(2, 2)
    assert meter.flops == 0
    assert set(meter.figures(step_s=1.0)) == {"memory_gib"}


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("Tesla P4", None),
    ],
)
def test_a_device_is_known_by_its_name(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak
