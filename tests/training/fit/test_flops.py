"""Operations, against PyTorch's own counter and by hand."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from training.fit.flops import FlopMeter, peak, peak_of

SIZE = (32, 32)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(8 * 16, 4))


def count(module: nn.Module, inputs: torch.Tensor) -> int:
    meter = FlopMeter()
    with meter.part(SIZE):
        with meter.forward():
            loss = module(inputs).square().mean()
        with meter.backward():
            loss.backward()
    return meter.counted[SIZE]


def test_a_step_counts_as_in_pytorch() -> None:
    module, inputs = network(), torch.randn(2, 3, 4, 4)
    with FlopCounterMode(display=False) as theirs:
        module(inputs).square().mean().backward()
    assert count(module, inputs) == theirs.get_total_flops() > 0


def test_a_layer_counts_six_operations_a_weight_and_sample() -> None:
    inputs = torch.randn(5, 8, requires_grad=True)
    assert count(nn.Linear(8, 4, bias=False), inputs) == 6 * 5 * 8 * 4


def test_what_is_computed_again_to_save_memory_counts_once() -> None:
    module, inputs = network(), torch.randn(2, 3, 4, 4)
    plain = count(module, inputs)
    module[0].forward = partial(checkpoint, module[0].forward, use_reentrant=False)
    module[3].forward = partial(checkpoint, module[3].forward, use_reentrant=False)
    assert count(module, inputs) == plain


def test_a_size_is_counted_once() -> None:
    meter = FlopMeter({SIZE: 7})
    with meter.part(SIZE), meter.forward():
        torch.ones(2, 2) @ torch.ones(2, 2)
    assert meter.counted == {SIZE: 7}


def test_what_broke_off_was_not_counted() -> None:
    meter = FlopMeter()
    with pytest.raises(ValueError, match="broken"), meter.part(SIZE), meter.forward():
        raise ValueError("broken")
    assert meter.counted == {}
    assert meter.counter is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L40", 181e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("Tesla P4", None),
    ],
)
def test_a_device_is_known_by_its_name(name: str, found: float | None) -> None:
    assert peak_of(name) == found


def test_a_processor_has_no_peak() -> None:
    assert peak(torch.device("cpu")) is None
