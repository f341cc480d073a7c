"""The membership trick against the naive softmax, and its life beside checkpointing."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from training.modules.attention_maps import AttnCapture, CapturingProcessor, entity_maps, level_size, membership
from training.modules.unet import UnetSizes, build_unet
from training.torchvision_compat import ensure_torchvision

ensure_torchvision()

from diffusers.models.attention_processor import AttnProcessor2_0  # noqa: E402

ENTITY = torch.tensor([[0, 0, 1, 1, 0, 2, 2, 0], [0, 1, 1, 0, 0, 0, 0, 0]])
IS_THERE = torch.tensor([[True] * 8, [True] * 5 + [False] * 3])


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    sizes = UnetSizes(
        channels=(8, 16), attends=(True, True), layers=1, heads=2, context_dim=12, latent_channels=4, groups=4
    )
    return build_unet(sizes)


def naive_maps(query, key, bias, columns):
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + bias
    return torch.einsum("bhnl,blk->bkn", scores.softmax(-1), columns) / query.shape[1]


def inputs(head_dim, seed=0):
    torch.manual_seed(seed)
    query = torch.randn(2, 3, 20, head_dim, requires_grad=True)
    key = torch.randn(2, 3, 8, head_dim, requires_grad=True)
    return query, key, torch.where(IS_THERE, 0.0, -10000.0)[:, None, None]


@pytest.mark.parametrize("aggregate", ["sum", "mean", "per_token"])
@pytest.mark.parametrize("head_dim", [8, 2])
def test_maps_are_those_of_the_naive_softmax_in_values_and_gradients(aggregate, head_dim):
    query, key, bias = inputs(head_dim)
    columns = membership(ENTITY, 2, aggregate).columns
    results = []
    for compute in (entity_maps, naive_maps):
        maps = compute(query, key, bias, columns)
        weights = torch.linspace(-1, 1, maps.numel()).reshape(maps.shape)
        results.append((maps, *torch.autograd.grad((maps * weights).sum(), (query, key))))
    for trick, naive in zip(*results, strict=True):
        torch.testing.assert_close(trick, naive, atol=2e-6, rtol=2e-5)  # float32 rounding of another order of sums


def test_the_map_of_all_tokens_is_one_everywhere():
    query, key, bias = inputs(4)
    maps = entity_maps(query, key, bias, torch.ones(2, 8, 1))
    torch.testing.assert_close(maps, torch.ones(2, 1, 20))


def test_a_sum_is_its_tokens_together_and_a_mean_their_share():
    summed, mean = membership(ENTITY, 3, "sum"), membership(ENTITY, 3, "mean")
    each = membership(ENTITY, 3, "per_token")
    assert summed.owner.tolist() == mean.owner.tolist() == [[1, 2, 0], [1, 0, 0]]
    assert each.owner.tolist() == [[1, 1, 2, 2], [1, 1, 0, 0]]
    assert torch.equal(summed.columns[0, :, 0], ENTITY[0].eq(1).float())
    torch.testing.assert_close(mean.columns * 2, summed.columns)
    torch.testing.assert_close(each.columns.sum(2), (ENTITY > 0).float())


def test_prompts_without_images_have_maps_of_nothing():
    for aggregate in ("sum", "mean", "per_token"):
        assert not membership(torch.zeros(2, 5, dtype=torch.long), 1, aggregate).owner.any()


@given(st.integers(1, 130), st.integers(1, 130), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_levels_halve_rounding_up(height, width, level):
    expected = height, width
    for _ in range(level):
        expected = (expected[0] + 1) // 2, (expected[1] + 1) // 2
    assert level_size((height, width), expected[0] * expected[1]) == expected


def test_a_level_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="latents of 8 x 8 have no level of 20 places"):
        level_size((8, 8), 20)


def run(unet, capture=None, size=(8, 12)):
    torch.manual_seed(1)
    latents, context = torch.randn(2, 4, *size), torch.randn(2, 8, 12)
    return unet(
        latents,
        torch.tensor([10, 500]),
        encoder_hidden_states=context,
        encoder_attention_mask=IS_THERE,
        cross_attention_kwargs=None if capture is None else {"capture": capture},
    ).sample


def test_the_unet_says_what_it_says_with_diffusers_own_processor(unet):
    with torch.no_grad():
        ours = run(unet)
        unet.set_attn_processor(AttnProcessor2_0())
        theirs = run(unet)
        unet.set_attn_processor(CapturingProcessor())
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)  # the mask is spread over heads another way


def test_taking_maps_leaves_the_output_as_it_is(unet):
    with torch.no_grad(), AttnCapture(membership(ENTITY, 2, "sum"), (8, 12)) as capture:
        captured = run(unet, capture)
    assert torch.equal(captured, run(unet))
    # one layer on the way down and two on the way up at each level, one in the middle, which is as the lower level
    assert sorted(tuple(maps.shape[2:]) for maps in capture.maps) == [(4, 6)] * 4 + [(8, 12)] * 3


def test_maps_of_many_places_are_left_out(unet):
    with torch.no_grad(), AttnCapture(membership(ENTITY, 2, "sum"), (8, 12), most_places=24) as capture:
        run(unet, capture)
    assert {tuple(maps.shape[2:]) for maps in capture.maps} == {(4, 6)}


def units(unet):
    blocks = (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
    return [part for block in blocks for part in (*block.resnets, *block.attentions)]


def gradients(unet):
    with AttnCapture(membership(ENTITY, 2, "sum"), (8, 12)) as capture:
        predicted = run(unet, capture)
    taken = list(capture.maps)
    (predicted.square().mean() + sum(maps.square().mean() for maps in taken)).backward()
    found = {name: parameter.grad.clone() for name, parameter in unet.named_parameters()}
    unet.zero_grad()
    return taken, capture.maps, found


@pytest.mark.parametrize("way", ["diffusers", "units"])
def test_checkpointing_changes_neither_maps_nor_gradients(unet, way):
    plain_maps, _, plain = gradients(unet)
    if way == "diffusers":
        unet.enable_gradient_checkpointing()
    else:
        for unit in units(unet):
            unit.forward = partial(checkpoint, unit.forward, use_reentrant=False)
    try:
        taken, after, again = gradients(unet)
    finally:
        unet.disable_gradient_checkpointing()
        for unit in units(unet):
            unit.__dict__.pop("forward", None)
    assert len(after) == len(taken) == len(plain_maps)
    assert all(torch.equal(a, b) for a, b in zip(plain_maps, taken, strict=True))
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)
