import pytest
import torch
from torch import nn

from tests.training.fit.toy import ToyConfig, toy_recipe
from training.fit.parallel import Layout, as_family, evaluated, spread

CPU = torch.device("cpu")
ALONE = Layout(mode="single", device=CPU, size=1)


def gradients(family: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    for block in family.blocks:
        x = block(x)
    x.square().sum().backward()
    return [parameter.grad for parameter in family.blocks.parameters()]


def test_recomputing_changes_no_gradient_and_no_name() -> None:
    torch.manual_seed(0)
    plain = ToyConfig(dropout=0.5).build()
    again = ToyConfig(dropout=0.5).build()
    again.load_state_dict(plain.state_dict())
    spread(again, toy_recipe(recompute=True), ALONE)
    x, found = torch.randn(4, 16, requires_grad=True), []
    for family in (plain, again):
        torch.manual_seed(1)
        found.append(gradients(family, x))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert [block.seen for block in plain.blocks] == [1, 1]
    assert [block.seen for block in again.blocks] == [2, 2]
    assert list(again.state_dict()) == list(plain.state_dict())


def test_of_units_within_units_the_inner_are_recomputed_and_the_outer_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    family, compiled = ToyConfig().build(), []
    units = [family.blocks[0], family.blocks[1], family.blocks]
    family.blocks.forward = lambda x: family.blocks[1](family.blocks[0](x))
    monkeypatch.setattr(family, "units", lambda: units)
    monkeypatch.setattr(torch, "compile", lambda forward: compiled.append(forward) or forward)
    outer = family.blocks.forward
    spread(family, toy_recipe(recompute=True, compile=True), ALONE)
    family.blocks(torch.randn(1, 16, requires_grad=True)).sum().backward()
    assert [block.seen for block in family.blocks] == [2, 2]
    assert compiled == [outer]


def test_modes_are_put_back() -> None:
    family = ToyConfig().build()
    family.encoder.eval()
    with evaluated(family):
        assert not any(part.training for part in family.modules())
    assert family.training and family.blocks.training
    assert not any(part.training for part in family.encoder.modules())


def test_several_ranks_do_not_work_as_one() -> None:
    with pytest.raises(ValueError, match="mode single is for one rank, got 2; take ddp or fsdp"):
        Layout(mode="single", device=CPU, size=2).mesh()


def test_what_is_no_family_is_told() -> None:
    with pytest.raises(TypeError, match="Linear is no Family: it needs insertion, forward, sample and units"):
        as_family(nn.Linear(1, 1))
