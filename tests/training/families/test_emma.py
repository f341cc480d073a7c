"""The tiny EMMA: what it learns and what stays, what a condition says, and what it draws."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs

from tests.training.batches import sample as squares
from tests.training.stream.make import draw_record, draws, example_of
from training.diffusion.schedule import NoiseSchedule
from training.families.base import Conditions, Family, SampleConfig, conditions_of
from training.families.emma import Emma, EmmaConfig
from training.fit.groups import choose
from training.modules.agpr import EmmaCondition
from training.modules.autoencoder import PixelSizes
from training.modules.unet import UnetSizes
from training.noise import Noise
from training.recipe_emma import emma_tiny
from training.recipes import RECIPES
from training.stream.collate import Place, collate
from training.stream.geometry import frame
from training.stream.prepare import Prepared
from training.stream.prompts.base import Prompt, Reference, weave
from training.stream.tensors import BatchTensors, to_tensors
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights

ensure_torchvision()

from diffusers import DDIMScheduler  # noqa: E402

CAPTION = "a square on grey"
FEW = SampleConfig(steps=3, seed=1, guidance_scale=4.0)
TINY = emma_tiny().family
assert isinstance(TINY, EmmaConfig)
(STYLE,) = TINY.conditions
OBJECT = EmmaCondition(
    name="object", vector_dim=8, local_dim=6, local_tokens=3, strength=0.01, encoder=STYLE.encoder, network="small"
)


def asked(names: tuple[str, ...] = ("image",), text: str = CAPTION) -> Prompt:
    references = tuple(Reference(name=name, role="image", member=None) for name in names)
    return Prompt(interleaved=weave(text, references, "side"), caption=CAPTION, references=references)


def vector(number: int, dim: int = 128) -> np.ndarray:
    return np.random.default_rng(number).normal(size=dim).astype(np.float16)


def batch(*prompts: Prompt, first: int = 0, features: bool = True) -> BatchTensors:
    """Squares of different colours, whose prompts differ by features of their references alone."""
    samples = []
    for number, prompt in enumerate(prompts, first):
        kept = {"image_clip_vector": vector(number), "region0_small_vector": vector(number, 8)}
        kept["region0_small_tokens"] = np.random.default_rng(number).normal(size=(3, 6)).astype(np.float16)
        wanted = {name: kept[name] for name in kept if name.startswith(tuple(r.name for r in prompt.references))}
        samples.append(
            Prepared(
                key=f"sample{number}",
                framing=frame((32, 32), (32, 32), draws(), "centre"),
                image=squares(number, 1).image,
                prompt=prompt,
                references=(None,) * len(prompt.references),
                masks=(None,) * len(prompt.references),
                controls={},
                features=wanted if features and prompt.references else {},
            )
        )
    return to_tensors(collate(samples, Place(epoch=0, step=0, ratio=1.0, size=(32, 32))))


def made(config: EmmaConfig = TINY, strength: float | None = None) -> Emma:
    torch.manual_seed(0)
    if strength is not None:
        config = replace(config, conditions=tuple(replace(each, strength=strength) for each in config.conditions))
    return config.build().eval()


@pytest.fixture(scope="module")
def family() -> Emma:
    """With gates wide open, so that conditions say something."""
    return made(strength=1.0)


@pytest.fixture(scope="module")
def tensors() -> BatchTensors:
    return batch(asked(), asked(), asked(()), asked())


def test_it_is_a_family_of_less_than_half_a_million_parameters(family: Emma) -> None:
    assert isinstance(family, Family)
    assert 300_000 < sum(p.numel() for p in family.parameters()) < 500_000
    assert {name.split(".")[0] for name, _ in family.named_parameters()} == {"t5", "ella", "branches", "unet"}


@pytest.mark.parametrize("name", ["ella", "emma_object", "emma_style", "emma_face", "emma_portrait", "emma_region"])
def test_full_recipes_fit_together_and_train_what_the_paper_trains(name: str) -> None:
    recipe = RECIPES[name]()
    assert isinstance(recipe.family, EmmaConfig)
    sd15 = UnetSizes(
        channels=(320, 640, 1280, 1280),
        attends=(True, True, True, False),
        layers=2,
        heads=8,
        context_dim=768,
        latent_channels=4,
    )
    with torch.device("meta"):
        family = replace(recipe.family, unet=sd15, autoencoder=PixelSizes(patch=1), schedule=TINY.schedule)
        family = replace(family, unet=replace(sd15, latent_channels=3)).build(load=False)
    choose(family, recipe.groups)
    trained = sum(p.numel() for p in family.parameters() if p.requires_grad)
    blocks, vector = 6 * (10_628_352 + 2 * 769 + 2), 1024 * 768 + 768
    local = 1280 * 768 + 768
    assert trained == {
        "ella": 66_820_608,
        "emma_style": blocks + 4 * vector,
        "emma_face": blocks + 4 * (512 * 768 + 768),
    }.get(name, blocks + vector + local)
    assert sum(p.numel() for p in family.ella.parameters()) == 66_820_608


def test_it_learns_a_batch_and_which_square_is_meant_by_the_condition_alone() -> None:
    tensors = batch(*(asked() for _ in range(4)))
    swapped = replace(tensors, features={"image_clip_vector": tensors.features["image_clip_vector"].flip(0)})
    schedule = NoiseSchedule(prediction="v_prediction")  # at high noise, what is to be drawn is to be said
    family = made(replace(TINY, schedule=schedule), strength=0.3)
    choose(family, tuple(replace(emma_tiny().groups[0], names=f"{part}.*") for part in ("unet", "ella", "branches")))
    trained = {name: p for name, p in family.named_parameters() if p.requires_grad}
    optimiser, before = torch.optim.AdamW(trained.values(), lr=4e-3), error(family, tensors)
    for step in range(48):
        found = family(tensors, Noise(0, step, range(4)))
        optimiser.zero_grad()
        found.total.backward()
        if step == 1:
            assert [name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum()] == []
        optimiser.step()
    right, wrong = error(family, tensors), error(family, swapped)
    assert right < 0.8 * before
    assert right < 0.94 * wrong


def error(family: Emma, tensors: BatchTensors) -> float:
    """The mean loss at noise that was not learnt by heart."""
    with torch.no_grad():
        return float(np.mean([family(tensors, Noise(1, step, range(4))).total.item() for step in range(8)]))


def test_a_condition_alone_learns_and_all_else_stays(tensors: BatchTensors) -> None:
    family = made()
    choose(family, emma_tiny().groups)
    trained = {name: p for name, p in family.named_parameters() if p.requires_grad}
    assert {name.split(".")[:2][1] for name in trained} == {"style"}
    before = {name: p.detach().clone() for name, p in family.named_parameters() if name not in trained}
    optimiser, losses = torch.optim.AdamW(trained.values(), lr=2e-2), []
    for step in range(12):
        found = family(tensors, Noise(0, 0, range(4)))
        optimiser.zero_grad()
        found.total.backward()
        if step == 0:
            assert [name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum()] == []
        optimiser.step()
        losses.append(found.terms["denoising"].item())
    assert losses[-1] < 0.98 * losses[0]  # the rest is as it was made, and knows of no picture
    after = dict(family.named_parameters())
    assert all(torch.equal(value, after[name]) and after[name].grad is None for name, value in before.items())


def test_at_strength_0_it_is_ella_to_the_last_bit(tensors: BatchTensors) -> None:
    emma, plain = made(strength=0.0), made(replace(TINY, conditions=()))
    plain.load_state_dict({name: value for name, value in emma.state_dict().items() if "branches" not in name})
    bare = batch(*(asked(()) for _ in range(4)))
    noise = Noise(0, 0, range(4))
    with torch.no_grad():
        assert (emma(tensors, noise).total - plain(bare, noise).total).abs() == 0
    assert torch.equal(emma.sample(conditions_of(tensors), FEW), plain.sample(conditions_of(bare), FEW))


def test_its_condition_and_its_text_each_change_the_picture(family: Emma) -> None:
    drawn = [
        family.sample(conditions_of(batch(prompt, first=first)), FEW)
        for prompt, first in [(asked(), 0), (asked(), 1), (asked(()), 0), (asked(text="something else"), 0)]
    ]
    assert len({picture.numpy().tobytes() for picture in drawn}) == 4


def test_a_dropped_text_is_the_empty_one_and_a_dropped_condition_is_left_out(family: Emma) -> None:
    noise = Noise(0, 0, range(1))
    with torch.no_grad():
        dropped = family(batch(asked(text="")), noise).total
        asked_for = family(batch(structs.replace(asked(text=""), is_text_dropped=True)), noise).total
        context = family._context(conditions_of(batch(asked(text=""))))
    assert dropped == asked_for
    torch.testing.assert_close(context.text[0], family.t5.read([""]).states[0])
    left_out = family._context(conditions_of(batch(asked(), asked(()))))
    assert left_out.scales[0].tolist() == [1, 0]


def test_lambda_says_how_much(tensors: BatchTensors) -> None:
    def predicted(scale: float) -> torch.Tensor:
        config = replace(TINY, conditions=(replace(STYLE, scale=scale),))
        family = made(config, strength=1.0)
        with torch.no_grad():
            return family(tensors, Noise(0, 0, range(4))).total

    bare = made(strength=1.0)(batch(*(asked(()) for _ in range(4))), Noise(0, 0, range(4))).total.detach()
    assert predicted(0.0) == bare != predicted(1.0) != predicted(0.5)


def test_the_loss_of_a_batch_is_the_mean_of_its_parts(family: Emma, tensors: BatchTensors) -> None:
    with torch.no_grad():
        whole = family(tensors, Noise(0, 0, range(4))).total
        prompts = tensors.batch.prompts
        parts = [family(batch(prompts[n], first=n), Noise(0, 0, range(n, n + 1))).total for n in range(4)]
    torch.testing.assert_close(whole, torch.stack(parts).mean(), atol=1e-5, rtol=1e-4)


def test_it_learns_in_bfloat16(family: Emma, tensors: BatchTensors) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        halves = family(tensors, Noise(0, 0, range(4)))
    with torch.no_grad():
        assert halves.total.item() == pytest.approx(family(tensors, Noise(0, 0, range(4))).total.item(), rel=0.05)


def test_a_picture_is_drawn_alike_beside_any_others(family: Emma, tensors: BatchTensors) -> None:
    whole = family.sample(conditions_of(tensors), FEW)
    alone = family.sample(conditions_of(batch(asked(()), first=2)), FEW, first=2)
    assert (whole[2:3].int() - alone.int()).abs().max() <= 1
    assert torch.equal(whole, family.sample(conditions_of(tensors), FEW))


def test_it_draws_as_diffusers_ddim_does_with_a_context_made_anew_at_every_step(family: Emma) -> None:
    """The loop written out: null and full contexts of this very timestep, guided."""
    conditions = conditions_of(batch(asked()))
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.set_timesteps(3)
    latents = Noise(1, 0, range(1)).normal("latents", (12, 16, 16))
    branch = family.branches["style"]
    with torch.no_grad():
        tokens = branch(torch.from_numpy(vector(0)).float()[None], None)
        null, text = (family.t5.read([words]).states for words in ("", CAPTION))
        contexts = []
        for t in scheduler.timesteps:
            empty = family.ella(null, t)

            def between(number: int, latents: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
                block = branch.block(number)
                latents = latents + block.attention(latents, tokens, time, torch.ones(1))
                return latents + block.feed_forward(latents, time, torch.ones(1))

            full = family.ella(text, t, between)
            contexts.append(full)
            eps_null, eps_full = (family.unet(latents, t, context).sample for context in (empty, full))
            latents = scheduler.step(eps_null + 4.0 * (eps_full - eps_null), t, latents).prev_sample
    assert not torch.allclose(contexts[0], contexts[-1])
    wanted = family.autoencoder.decode(latents)
    assert (family.sample(conditions, FEW).int() - wanted.int()).abs().max() <= 1


def test_guidance_of_1_asks_once_and_conditions_may_be_guided_apart(family: Emma, monkeypatch) -> None:
    conditions = conditions_of(batch(asked()))
    rows: list[int] = []
    forward = family.ella.forward
    monkeypatch.setattr(family.ella, "forward", lambda text, *rest: rows.append(len(text)) or forward(text, *rest))
    as_one = family.sample(conditions, FEW)
    apart = family.sample(conditions, replace(FEW, image_guidance_scale=4.0))
    weaker = family.sample(conditions, replace(FEW, image_guidance_scale=0.0))
    family.sample(conditions, replace(FEW, guidance_scale=1.0))
    assert rows == [2] * 3 + [3] * 6 + [1] * 3
    assert (as_one.int() - apart.int()).abs().max() <= 1
    assert not torch.equal(apart, weaker)


def test_two_conditions_are_drawn_from_together_and_in_any_order() -> None:
    both = made(replace(TINY, conditions=(STYLE, OBJECT)), strength=1.0)
    turned = made(replace(TINY, conditions=(OBJECT, STYLE)), strength=1.0)
    turned.load_state_dict(both.state_dict())
    first = both.sample(conditions_of(batch(asked(("image", "region0")))), FEW)
    second = turned.sample(conditions_of(batch(asked(("region0", "image")))), FEW)
    alone = both.sample(conditions_of(batch(asked(("image",)))), FEW)
    assert torch.equal(first, second)
    assert not torch.equal(first, alone)


def test_pictures_are_read_live_where_there_are_no_features(family: Emma) -> None:
    pixels = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8)
    clip = family._clip(STYLE)
    live = Conditions(prompts=(asked(),), references=((pixels,),), features={})
    kept = Conditions(
        prompts=(asked(),), references=((None,),), features={"image_clip_vector": clip.see([pixels]).vectors}
    )
    assert torch.equal(family.sample(live, FEW), family.sample(kept, FEW))
    assert "clip" not in {name.split(".")[0] for name, _ in family.named_parameters()}


def test_what_can_not_be_drawn_is_told(family: Emma) -> None:
    with pytest.raises(ValueError, match="shows 2 pictures, but this model reads one each for style, in this order"):
        family.sample(conditions_of(batch(asked(("image", "region0")))), FEW)
    with pytest.raises(ValueError, match="shows 1 pictures, but this model reads none: leave the others out"):
        made(replace(TINY, conditions=())).sample(conditions_of(batch(asked())), FEW)
    with pytest.raises(ValueError, match="is longer than the 128 tokens that are read: shorten it"):
        family.sample(conditions_of(batch(asked((), "long " * 30))), FEW)
    with pytest.raises(ValueError, match="has neither its features image_clip_vector nor pixels"):
        family(batch(asked(), features=False), Noise(0, 0, range(1)))
    with pytest.raises(ValueError, match="steps must be"):
        family.sample(conditions_of(batch(asked())), replace(FEW, steps=0))
    with pytest.raises(ValueError, match="multiples of 2, got 33"):
        family.sample(conditions_of(batch(asked())), replace(FEW, size=(33, 32)))


def test_texts_that_are_too_long_are_counted_in_training(family: Emma) -> None:
    with torch.no_grad():
        found = family(batch(asked((), "long " * 30), asked(())), Noise(0, 0, range(2)))
    assert found.terms["cut"] == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unet": replace(TINY.unet, context_dim=16)}, "context is 16 wide, the connector's latents are 32"),
        ({"ella": replace(TINY.ella, text_dim=16)}, "the text encoder's states are 32 wide, the connector takes 16"),
        ({"autoencoder": PixelSizes(patch=1)}, "in_channels are 12, the autoencoder's latents have 3 channels"),
        ({"ella_weights": Weights(name="stages/data")}, "no such file, nor model.*folder of the connector"),
    ],
    ids=["unet", "text", "channels", "weights"],
)
def test_parts_that_do_not_fit_are_told(change: dict[str, object], message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        replace(TINY, **change).build()


def test_conditions_of_one_name_are_told() -> None:
    with pytest.raises(ValueError, match="several conditions are called 'style'"):
        replace(TINY, conditions=(STYLE, STYLE))


def test_its_units_are_called_whatever_the_samples_hold(family: Emma) -> None:
    called: set[torch.nn.Module] = set()
    hooks = [unit.register_forward_hook(lambda unit, *_: called.add(unit)) for unit in family.units()]
    with torch.no_grad():
        family(batch(asked(())), Noise(0, 0, range(1)))
    for hook in hooks:
        hook.remove()
    assert called == set(family.units())
    names = {type(unit).__name__ for unit in family.units()}
    assert names == {"ResnetBlock2D", "Transformer2DModel", "PerceiverBlock", "GatedAttention", "GatedFeedForward"}


def test_the_prompts_of_the_stream_are_its_own(family: Emma, tmp_path: Path) -> None:
    """The builder names the features that the family asks for."""
    example = example_of(draw_record())
    prompt = emma_tiny().stream.builder.build(example, frame((96, 64), (96, 64), draws(), "centre"), draws("kept"))
    assert [reference.features for reference in prompt.references] == [("image_clip_vector",)]
    assert family.insertion == "side" == prompt.interleaved.images[0].insertion
