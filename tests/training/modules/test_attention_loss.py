import pytest
import torch

from training.modules.attention_loss import EntityMasks, attention_loss, entity_masks
from training.modules.attention_maps import AttnCapture, membership
from training.modules.unet import UnetSizes, build_unet

IMAGES = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)


def half():
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:, :4] = True
    return mask


def wanted(masks, owner):
    return entity_masks(masks, IMAGES).of(torch.tensor(owner))


def test_l1_is_the_mean_distance_to_the_mask_over_places_entities_and_layers():
    target = wanted([[half(), None], [half(), half()]], [[1, 2], [1, 2]])
    maps = [torch.full((2, 2, 4, 4), 0.25), torch.full((2, 2, 2, 2), 0.5)]
    # half of the places want 1, half 0: a map of 0.25 is 0.5 off on average, as is one of 0.5
    torch.testing.assert_close(attention_loss(maps, target), torch.tensor([0.5, 0.5]))


def test_a_perfect_map_costs_nothing_and_masks_are_averaged_down():
    edge = torch.zeros(8, 8, dtype=torch.bool)
    edge[:, :3] = True
    perfect = torch.tensor([1.0, 0.5, 0.0, 0.0]).expand(2, 1, 4, 4)
    torch.testing.assert_close(attention_loss([perfect], wanted([[edge], [edge]], [[1], [1]])), torch.zeros(2))


def test_balanced_l1_is_the_mean_outside_less_the_mean_inside():
    maps = torch.zeros(2, 1, 4, 4)
    maps[0, :, :, :2], maps[0, :, :, 2:] = 0.7, 0.1
    loss = attention_loss([maps], wanted([[half()], [half()]], [[1], [1]]), "balanced_l1")
    torch.testing.assert_close(loss, torch.tensor([0.1 - 0.7, 0.0]))


def test_samples_without_known_entities_count_as_nothing():
    maps = torch.rand(2, 1, 4, 4)
    assert attention_loss([maps], wanted([[None], []], [[1], [0]])).tolist() == [0, 0]


def test_an_entity_whose_tokens_were_cut_is_left_out():
    maps = torch.rand(2, 2, 4, 4)
    masks = [[half(), half()], [half()]]
    both = attention_loss([maps], wanted(masks, [[1, 2], [1, 0]]))
    one = attention_loss([maps], wanted(masks, [[1, 0], [1, 0]]))
    assert both[0] != one[0]
    torch.testing.assert_close(one[0], (maps[0, 0] - half()[::2, ::2].float()).abs().mean())


def test_a_samples_loss_does_not_depend_on_its_batch():
    maps = torch.rand(2, 2, 4, 4)
    masks = [[half(), half()], [half()]]
    whole = attention_loss([maps], wanted(masks, [[1, 2], [1, 0]]))
    alone = attention_loss([maps[1:, :1]], entity_masks(masks[1:], IMAGES[1:]).of(torch.tensor([[1]])))
    torch.testing.assert_close(whole[1:], alone)


def test_masks_of_no_references_make_room_for_one():
    empty = entity_masks([[], []], IMAGES)
    assert isinstance(empty, EntityMasks)
    assert empty.masks.shape == (2, 1, 8, 8)
    assert not empty.known.any()


def test_a_unet_without_maps_is_told():
    with pytest.raises(ValueError, match="no attention map was taken"):
        attention_loss([], wanted([[half()], [half()]], [[1], [1]]))


def test_trained_alone_it_falls_and_attention_gathers_in_the_mask():
    torch.manual_seed(0)
    sizes = UnetSizes(
        channels=(8, 16), attends=(True, True), layers=1, heads=2, context_dim=12, latent_channels=4, groups=4
    )
    unet = build_unet(sizes)
    latents, context = torch.randn(2, 4, 8, 8), torch.randn(2, 6, 12)
    members = membership(torch.tensor([[0, 0, 1, 1, 0, 0]] * 2), 1, "sum")
    target = wanted([[half()], [half()]], [[1], [1]])
    optimiser = torch.optim.AdamW(unet.parameters(), lr=5e-3)
    losses, inside = [], []
    for _ in range(40):
        with AttnCapture(members, (8, 8)) as capture:
            unet(latents, 500, context, cross_attention_kwargs={"capture": capture})
        loss = attention_loss(capture.maps, target).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        inside.append(capture.maps[0][:, :, :, :4].mean().item())
    assert losses[-1] < 0.6 * losses[0]
    assert inside[-1] > 1.5 * inside[0]
