"""The tiny MUMU: what it learns, what its U-Net is told, and that its updates fit other U-Nets of the same sizes."""

from dataclasses import replace

import pytest
import torch
from msgspec import structs
from torch import nn

from manifests.prompt import TextSegment
from tests.training.batches import batch
from tests.training.families.overfit import overfit
from training.config import Group, Lora
from training.diffusion.sampler import Guidance
from training.diffusion.schedule import NoiseSchedule
from training.export.source import Source
from training.export.write import export
from training.families.base import Conditions, Family, SampleConfig, conditions_of
from training.families.branches import in_branches, without_images
from training.families.mumu import Mumu
from training.fit.checkpoint import Notes
from training.fit.groups import choose
from training.fit.skip import Skips
from training.modules.autoencoder import KlSizes, PixelSizes
from training.modules.framing import framing_numbers, whole_numbers
from training.modules.unet import build_sdxl_unet, build_unet
from training.noise import Noise
from training.recipe_mumu import mumu, mumu_tiny
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights

ensure_torchvision()

from diffusers import UNet2DConditionModel  # noqa: E402
from peft import PeftModel  # noqa: E402

TINY = mumu_tiny().family
FEW = SampleConfig(steps=4, seed=3)


@pytest.fixture(scope="module")
def family() -> Mumu:
    torch.manual_seed(0)
    return TINY.build().eval()


@pytest.fixture(scope="module")
def tensors():
    return pairs([2, 1, 0, 2])


def pairs(references, **options):
    return batch(references, insertion="before", **options)


def part(tensors, *numbers) -> Conditions:
    """Conditions of some samples."""
    whole = conditions_of(tensors)
    return Conditions(
        prompts=tuple(whole.prompts[n] for n in numbers),
        references=tuple(whole.references[n] for n in numbers),
        features={},
    )


def told_to(family: Mumu, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """What its U-Net is told from now on."""
    found: list[dict[str, torch.Tensor]] = []
    forward = family.unet.forward

    def noted(*args, **kwargs):
        found.append(kwargs["added_cond_kwargs"] | {"context": kwargs["encoder_hidden_states"]})
        return forward(*args, **kwargs)

    monkeypatch.setattr(family.unet, "forward", noted)
    return found


def test_it_is_a_family_of_under_half_a_million_parameters(family):
    assert isinstance(family, Family)
    assert 400_000 < sum(p.numel() for p in family.parameters()) < 500_000


def test_it_overfits_a_batch_and_every_parameter_gets_a_gradient(tensors):
    torch.manual_seed(0)
    losses = overfit(TINY.build(), tensors)
    assert losses[0] > 0.9
    assert max(losses[-2:]) < 0.45  # of 8 draws of noise by heart


def test_the_loss_is_what_diffusers_own_scheduler_makes_of_it(family, tensors, monkeypatch):
    """In a few lines of diffusers' and transformers' own, with the same draws."""
    noise = Noise(0, 0, range(4))
    with torch.no_grad():
        found = family(tensors, noise)
        scheduler = NoiseSchedule().ddim()
        clean = family.autoencoder.encode(tensors.images, noise)
        eps = noise.normal("eps", tuple(clean.shape[1:]))
        timesteps = noise.integers("timestep", 1000, ())
        encoded = family.mllm(conditions_of(tensors))
        context = family.adapter(encoded.tokens, encoded.mask)
        predicted = family.unet(
            scheduler.add_noise(clean, eps, timesteps),
            timesteps,
            context,
            encoder_attention_mask=encoded.mask,
            added_cond_kwargs={
                "text_embeds": torch.zeros(4, 16),
                "time_ids": torch.tensor([[32, 32, 0, 0, 32, 32]] * 4),
            },
        ).sample
    assert sorted(found.terms) == ["cut", "denoising"]
    torch.testing.assert_close(found.total, nn.functional.mse_loss(predicted, eps))


def papers() -> tuple[Group, ...]:
    """The paper's modes, at rates that a tiny model learns by."""
    return tuple(replace(group, lr=group.lr and 1e-2) for group in mumu().groups)


def test_the_papers_parts_train_and_no_others(tensors):
    torch.manual_seed(0)
    family = TINY.build()
    before = {name: p.detach().clone() for name, p in family.named_parameters()}
    choose(family, papers())
    trained = {name: p for name, p in family.named_parameters() if p.requires_grad}
    stems = {".".join(name.split(".")[:4]) if name.startswith("mllm") else name.split(".")[0] for name in trained}
    assert stems == {"mllm.network.model.connector", "mllm.network.model.text_model", "adapter", "unet"}
    assert all("lora_" in name for name in trained if not name.startswith("adapter"))
    assert {p.shape[0] for name, p in trained.items() if "lora_A" in name} == {8}
    optimiser = torch.optim.AdamW(trained.values(), lr=1e-2)
    losses = []
    for _ in range(12):
        found = family(tensors, Noise(0, 0, range(4)))
        optimiser.zero_grad()
        found.total.backward()
        optimiser.step()
        losses.append(found.total.item())
    assert losses[-1] < 0.95 * losses[0]
    assert [name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum()] == []
    for name, p in family.named_parameters():
        assert p.requires_grad or torch.equal(p, before[name.replace(".base_layer.", ".")])


def test_updates_change_nothing_at_first(tensors):
    torch.manual_seed(0)
    family = TINY.build()
    with torch.no_grad():
        before = family(tensors, Noise(0, 0, range(4))).total
        choose(family, papers())
        assert torch.equal(family(tensors, Noise(0, 0, range(4))).total, before)


def test_what_trains_gets_a_gradient_where_no_prompt_has_an_image_too():
    """Ranks share gradients of the same parameters, whatever their samples hold."""
    family = TINY.build()
    choose(family, papers())
    family(pairs([0, 0]), Noise(0, 0, range(2))).total.backward()
    assert [name for name, p in family.named_parameters() if p.requires_grad and p.grad is None] == []


def test_the_unet_is_told_how_targets_were_framed(family, tensors, monkeypatch):
    cropped = structs.replace(tensors.batch.framings[0], source_width=100, resized_width=53, left=9)
    framings = (cropped, *tensors.batch.framings[1:])
    told = told_to(family, monkeypatch)
    with torch.no_grad():
        plain = family(tensors, Noise(0, 0, range(4)))
        framed = family(replace(tensors, batch=replace(tensors.batch, framings=framings)), Noise(0, 0, range(4)))
    assert told[1]["time_ids"].tolist()[:2] == [[32, 100, 0, 9, 32, 32], [32, 32, 0, 0, 32, 32]]
    assert torch.equal(told[1]["time_ids"], framing_numbers(framings))
    assert not torch.equal(plain.total, framed.total)


def test_pictures_are_drawn_as_ones_stored_at_their_size_and_whole(family, tensors, monkeypatch):
    told = told_to(family, monkeypatch)
    family.sample(part(tensors, 0, 2), replace(FEW, size=(64, 32)))
    assert len(told) == 4
    assert all(torch.equal(each["time_ids"], whole_numbers((64, 32), 4)) for each in told)
    assert not any(each["text_embeds"].any() for each in told)
    assert torch.equal(told[0]["context"], told[3]["context"])


def test_the_language_model_runs_once_for_all_steps(family, tensors, monkeypatch):
    calls = []
    forward = family.mllm.forward
    monkeypatch.setattr(family.mllm, "forward", lambda *args, **kwargs: calls.append(1) or forward(*args, **kwargs))
    family.sample(part(tensors, 0), FEW)
    assert len(calls) == 1


def test_pictures_are_those_of_diffusers_own_loop(family, tensors):
    """DDIM of diffusers, guided away from the empty prompt by hand."""
    conditions = part(tensors, 0, 1)
    with torch.no_grad():
        encoded = family.mllm(in_branches(conditions, Guidance(scale=6.0)))
        context = family.adapter(encoded.tokens, encoded.mask)
        scheduler = NoiseSchedule().ddim()
        scheduler.set_timesteps(4)
        latents = Noise(3, 0, range(2)).normal("latents", (12, 16, 16))
        for timestep in scheduler.timesteps:
            null, full = family.unet(
                torch.cat([latents, latents]),
                timestep,
                context,
                encoder_attention_mask=encoded.mask,
                added_cond_kwargs={"text_embeds": torch.zeros(4, 16), "time_ids": whole_numbers((32, 32), 4)},
            ).sample.chunk(2)
            latents = scheduler.step(null + 6 * (full - null), timestep, latents).prev_sample
    assert TINY.guidance_scale == 6
    assert int(encoded.mask[0].sum()) == 1  # the start token alone
    found = family.sample(conditions, FEW).int() - family.autoencoder.decode(latents).int()
    assert found.abs().max() <= 1


def test_a_vector_of_the_context_begins_as_zeros_and_learns(tensors):
    torch.manual_seed(0)
    plain = TINY.build()
    torch.manual_seed(0)
    family = replace(TINY, vector="mean").build()
    family.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        assert torch.equal(*(each(tensors, Noise(0, 0, range(4))).total for each in (plain, family)))
    optimiser = torch.optim.SGD(family.parameters(), lr=0.1)
    family(tensors, Noise(0, 0, range(4))).total.backward()
    assert all(p.grad.abs().sum() for p in family.pooled.parameters())
    optimiser.step()
    with torch.no_grad():
        encoded = family.mllm(conditions_of(tensors))
        told = family._told(encoded, whole_numbers((32, 32), 4))
    means = torch.stack([row[mask].mean(0) for row, mask in zip(told.context.tokens, encoded.mask, strict=True)])
    torch.testing.assert_close(told.vector, family.pooled.project(means))
    assert told.vector.abs().sum()


def test_the_loss_of_a_batch_is_the_mean_of_its_parts(family, tensors):
    with torch.no_grad():
        whole = family(tensors, Noise(0, 0, range(4)))
        parts = [family(pairs([[2, 1, 0, 2][n]], first=n), Noise(0, 0, range(n, n + 1))) for n in range(4)]
    mean = torch.stack([each.total for each in parts]).mean()
    torch.testing.assert_close(whole.total, mean, atol=1e-5, rtol=1e-4)  # sums of another order


def test_a_picture_is_drawn_alike_beside_any_others(family, tensors):
    whole = family.sample(conditions_of(tensors), FEW)
    alone = family.sample(part(tensors, 2), FEW, first=2)
    assert (whole[2:3].int() - alone.int()).abs().max() <= 1  # of 255: sums of another order
    assert torch.equal(whole, family.sample(conditions_of(tensors), FEW))
    assert not torch.equal(whole, family.sample(conditions_of(tensors), replace(FEW, seed=4)))


def test_branches_are_nothing_then_words_then_all(tensors):
    branches = in_branches(part(tensors, 0), Guidance(scale=2.0, image_scale=2.0))
    assert [prompt.interleaved.render() for prompt in branches.prompts] == [
        "",
        "a square beside another one",
        "<subject0> a square beside <subject1> another one",
    ]
    words = without_images(tensors.batch.prompts[0]).interleaved.segments
    assert words == (TextSegment(tensors.batch.prompts[0].caption),)


def test_text_and_images_guided_alike_are_guided_as_one(family, tensors):
    one = part(tensors, 0)
    as_one = family.sample(one, replace(FEW, guidance_scale=3.0))
    apart = family.sample(one, replace(FEW, guidance_scale=3.0, image_guidance_scale=3.0))
    other = family.sample(one, replace(FEW, guidance_scale=3.0, image_guidance_scale=9.0))
    assert (as_one.int() - apart.int()).abs().max() <= 1
    assert not torch.equal(as_one, other)
    assert not torch.equal(as_one, family.sample(one, replace(FEW, guidance_scale=1.0)))


def test_prompts_that_are_too_long_are_cut_and_counted(tensors):
    family = replace(TINY, reader=replace(TINY.reader, max_tokens=20)).build()
    with torch.no_grad():
        assert family(tensors, Noise(0, 0, range(4))).terms["cut"] == 1
    with pytest.raises(
        ValueError, match=r"the prompt '<subject0> a square beside .*' has 42 tokens, its images 4 each"
    ):
        family.sample(part(tensors, 0), FEW)


def test_pictures_that_lack_or_do_not_fit_are_told(family, tensors):
    one = part(tensors, 1)
    with pytest.raises(ValueError, match="shows 1 images, but comes with 0"):
        family.sample(replace(one, references=((),)), FEW)
    with pytest.raises(ValueError, match="has no pixels, which its reader needs; features can't stand for them"):
        family.sample(replace(one, references=((None,),)), FEW)
    with pytest.raises(ValueError, match=r"is \(8, 8, 3\), but its reader takes \(16, 16, 3\)"):
        family.sample(replace(one, references=((torch.zeros(8, 8, 3, dtype=torch.uint8),),)), FEW)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be 1 to 1000"),
        ({"guidance_scale": 0.0}, "guidance scale must be 1"),
        ({"image_guidance_scale": -1.0}, "image guidance scale must be 0"),
        ({"size": (33, 32)}, "multiples of 2, got 33 x 32"),
    ],
)
def test_settings_out_of_range_are_told(family, tensors, settings, message):
    with pytest.raises(ValueError, match=message):
        family.sample(part(tensors, 0), replace(FEW, **settings))


def test_parts_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="the U-Net's in_channels are 12, the autoencoder's latents have 3 channels"):
        replace(TINY, autoencoder=PixelSizes(patch=1)).build()
    with pytest.raises(ValueError, match="addition_embed_type=None and not 'text_time'; take SDXL's"):
        replace(TINY, unet=replace(TINY.unet, added=None)).build()
    with pytest.raises(ValueError, match="the adapter's 3 heads must divide the context's width, which is 32"):
        replace(TINY, adapter=replace(TINY.adapter, heads=3)).build()
    with pytest.raises(ValueError, match="side must be a multiple of 8"):
        replace(TINY, reader=replace(TINY.reader, side=12)).build()
    with pytest.raises(ValueError, match="addition_embed_type='text_time' and needs more than a context"):
        build_unet(TINY.unet)


def test_its_units_are_blocks_of_the_unet_and_layers_of_adapter_and_reader(family):
    names = {type(unit).__name__ for unit in family.units()}
    assert names == {"ResnetBlock2D", "Transformer2DModel", "TransformerEncoderLayer", "MistralDecoderLayer"}
    held = sum(p.numel() for unit in family.units() for p in unit.parameters())
    assert held > 0.8 * sum(p.numel() for p in family.parameters())


def test_a_real_autoencoder_fits_as_well():
    config = replace(
        TINY,
        unet=replace(TINY.unet, latent_channels=4),
        autoencoder=KlSizes(channels=(8, 8), layers=1, latent_channels=4, groups=4, scaling_factor=0.13025),
    )
    family = config.build().eval()
    family(pairs([2, 0]), Noise(0, 0, range(2))).total.backward()
    assert all(p.grad is None and not p.requires_grad for p in family.autoencoder.parameters())
    assert family.sample(part(pairs([2]), 0), FEW).shape == (1, 32, 32, 3)


def test_the_unets_updates_are_put_on_a_communitys_unet_and_merge_exactly(tmp_path, tensors):
    """As exported: peft reads them, and another U-Net of the same sizes takes them into its weights."""
    torch.manual_seed(0)
    build_sdxl_unet(TINY.unet).save_pretrained(tmp_path / "base")
    community = build_sdxl_unet(TINY.unet)
    recipe = replace(
        mumu_tiny(),
        family=replace(TINY, unet=Weights(name=str(tmp_path / "base"))),
        groups=(
            Group(names="unet.*", mode="lora", lr=1e-2, lora=Lora(rank=8, alpha=8.0, targets=("to_k", "to_out.0"))),
        ),
    )
    family = recipe.family.build().eval()
    choose(family, recipe.groups)
    with torch.no_grad():
        for p in family.parameters():
            p.add_(0.1 * torch.randn_like(p) * p.requires_grad)
    notes = Notes(family="MumuConfig", step=1, skips=Skips(), stream={"eras": [{"sources": []}]})
    export(Source(recipe=recipe, family=family, notes=notes, use_ema=False), tmp_path / "out")
    updates = {
        name.removesuffix(".lora_A.default.weight"): family.get_parameter(name.replace("lora_A", "lora_B"))
        @ family.get_parameter(name)
        for name, _ in family.named_parameters()
        if "lora_A" in name
    }
    before = {name: p.detach().clone() for name, p in community.named_parameters()}
    merged = PeftModel.from_pretrained(community, tmp_path / "out" / "unet").merge_and_unload()
    assert isinstance(merged, UNet2DConditionModel)
    assert updates
    for name, p in merged.named_parameters():
        update = updates.get(f"unet.{name.removesuffix('.weight')}")
        expected = before[name] if update is None or not name.endswith(".weight") else before[name] + update
        torch.testing.assert_close(p, expected, atol=1e-6, rtol=0)  # one rounding of float32
        assert (update is None or not name.endswith(".weight")) == torch.equal(p, before[name])
