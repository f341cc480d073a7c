import pytest
import torch
from torch import nn

from training.modules.adapter import MUMU_ADAPTER, Adapter, AdapterSizes

SIZES = AdapterSizes(layers=3, heads=2)


def adapter() -> Adapter:
    torch.manual_seed(0)
    return Adapter(SIZES, 12, 8)


def mask(*lengths: int) -> torch.Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def test_it_is_torchs_own_encoder_behind_a_linear_layer():
    ours = adapter()
    layer = nn.TransformerEncoderLayer(8, 2, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(layer, 3, norm=nn.LayerNorm(8), enable_nested_tensor=False)
    theirs.layers.load_state_dict(ours.layers.state_dict())
    theirs.norm.load_state_dict(ours.norm.state_dict())
    states, there = torch.randn(2, 5, 12, requires_grad=True), mask(5, 3)
    expected = theirs(ours.project(states), src_key_padding_mask=~there)
    torch.testing.assert_close(ours(states, there)[there], expected[there])
    (gradient,) = torch.autograd.grad(ours(states, there)[there].square().sum(), states)
    (wanted,) = torch.autograd.grad(expected[there].square().sum(), states)
    torch.testing.assert_close(gradient, wanted)


def test_layers_begin_differently():
    first, second, _ = adapter().layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


def test_every_token_sees_those_behind_it_and_none_that_is_not_there():
    ours, states = adapter().eval(), torch.randn(1, 4, 12)
    later, padded = states.clone(), states.clone()
    later[:, 2] += torch.randn(12)
    padded[:, 3] = 100
    there = torch.tensor([[True, True, True, False]])
    with torch.no_grad():
        whole = ours(states, there)
        assert not torch.allclose(ours(later, there)[:, 0], whole[:, 0], atol=1e-4)
        torch.testing.assert_close(ours(padded, there)[:, :3], whole[:, :3])
        torch.testing.assert_close(ours(states[:, :3], mask(3)), whole[:, :3])


def test_states_in_half_precision_are_taken_as_its_own():
    assert adapter()(torch.randn(1, 3, 12).bfloat16(), mask(3)).dtype == torch.float32


def test_heads_that_do_not_divide_the_width_are_told():
    with pytest.raises(ValueError, match="the adapter's 3 heads must divide the context's width, which is 8"):
        Adapter(AdapterSizes(layers=1, heads=3), 12, 8)


def test_mumus_has_806_million_parameters_and_a_linear_layer():
    with torch.device("meta"):
        ours = Adapter(MUMU_ADAPTER, 4096, 2048)
    layers = sum(p.numel() for p in (*ours.layers.parameters(), *ours.norm.parameters()))
    assert layers == 805_736_448
    assert sum(p.numel() for p in ours.parameters()) == layers + 4096 * 2048 + 2048
