"""The tiny λ-ECLIPSE: what it learns, from what, and what it draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from msgspec import structs

from manifests.record import Span
from training.encoders.clip import load_clip, load_clip_tokenizer
from training.families.base import Conditions, Family, SampleConfig, conditions_of
from training.families.lambda_eclipse import LambdaEclipse, LambdaEclipseConfig
from training.fit.groups import choose
from training.modules.kandinsky import KandinskySizes
from training.modules.overwrite import tokenise
from training.modules.prior_loss import PriorLoss
from training.noise import Noise
from training.recipe_lambda_eclipse import lambda_eclipse_tiny
from training.stream.collate import Place, collate
from training.stream.geometry import frame
from training.stream.keyed import Draws
from training.stream.prepare import Prepared
from training.stream.prompts.base import Prompt, Reference, weave
from training.stream.tensors import BatchTensors, to_tensors
from training.weights import Weights

CAPTION, NOUNS = "a circle on the left and a star on the right", ("circle", "star")
TINY = lambda_eclipse_tiny().family
assert isinstance(TINY, LambdaEclipseConfig)
FEW = SampleConfig(steps=3, seed=1)


@pytest.fixture(scope="module")
def clip():
    return load_clip(Weights(name="stages/data/shapes_clip"))


@pytest.fixture(scope="module")
def family() -> LambdaEclipse:
    torch.manual_seed(0)
    return TINY.build().eval()


def prompt(nouns: tuple[str, ...], has_control: bool = False) -> Prompt:
    spans = [Span(start=CAPTION.index(noun), end=CAPTION.index(noun) + len(noun)) for noun in nouns]
    subjects = [
        Reference(name=f"subject{n}", role="subject", member=None, subject=n, span=span) for n, span in enumerate(spans)
    ]
    controls = [Reference(name="canny", role="control", member=None)] if has_control else []
    references = (*controls, *subjects)
    return Prompt(interleaved=weave(CAPTION, references, "feature"), caption=CAPTION, references=references)


def crop(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)


def batch(clip, numbers: range, has_features: bool = True) -> BatchTensors:
    """Samples of random pictures whose features are CLIP's own; the even ones have a control."""
    samples = []
    for number in numbers:
        asked, image = prompt(NOUNS, number % 2 == 0), crop(100 + number)[:32, :32]
        text = clip.read(tokenise(load_clip_tokenizer(TINY.clip), [CAPTION], 32))
        vectors = clip.see([torch.from_numpy(crop(n)) for n in (number, number + 1, number + 2)])
        features = {
            "caption_clip_states": text.states[0].numpy(),
            "caption_clip_pooled": text.pooled[0].numpy(),
            "image_clip_vector": clip.see([torch.from_numpy(image)])[0].numpy(),
            "subject0_clip_vector": vectors[0].numpy(),
            "subject1_clip_vector": vectors[1].numpy(),
        } | ({"canny_clip_vector": vectors[2].numpy()} if number % 2 == 0 else {})
        samples.append(
            Prepared(
                key=f"sample{number}",
                framing=frame((32, 32), (32, 32), Draws(0, 0, "s"), "centre"),
                image=image,
                prompt=asked,
                references=(None,) * len(asked.references),
                masks=(None,) * len(asked.references),
                controls={},
                features=features if has_features else {},
            )
        )
    return to_tensors(collate(samples, Place(epoch=0, step=0, ratio=1.0, size=(32, 32))))


def test_it_is_a_family_of_less_than_a_million_parameters(family: LambdaEclipse) -> None:
    assert isinstance(family, Family)
    assert 300_000 < sum(parameter.numel() for parameter in family.parameters()) < 1_000_000


def test_it_overfits_a_batch_and_all_that_trains_gets_a_gradient(clip) -> None:
    torch.manual_seed(0)
    family, tensors = TINY.build(), batch(clip, range(4))
    choose(family, lambda_eclipse_tiny().groups)
    trained = {name: p for name, p in family.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in trained} == {"prior", "unet"}
    optimiser, totals = torch.optim.AdamW(trained.values(), lr=4e-3), []
    for step in range(40):
        losses = family(tensors, Noise(0, step % 2, range(4)))
        optimiser.zero_grad()
        losses.total.backward()
        if step == 1:
            assert not [name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum()]
        optimiser.step()
        totals.append(losses.total.item())
    assert np.mean(totals[-4:]) < 0.5 * np.mean(totals[:4])


def test_a_samples_vector_does_not_depend_on_the_batch(clip, family: LambdaEclipse) -> None:
    whole = family.vectors(conditions_of(batch(clip, range(4))), Noise(0, 0, range(4)))
    alone = family.vectors(conditions_of(batch(clip, range(2, 3))), Noise(0, 0, range(2, 3)))
    torch.testing.assert_close(whole[2:3], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(34, 32), (32, 38), (2, 2)])
def test_sides_that_its_decoder_can_not_halve_are_told(clip, family: LambdaEclipse, size: tuple[int, int]) -> None:
    tensors = batch(clip, range(2))
    with pytest.raises(ValueError, match=f"multiples of 4, got {size[0]} x {size[1]}"):
        family.sample(conditions_of(tensors), replace(FEW, size=size))
    images = torch.zeros(2, size[1], size[0], 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match=f"multiples of 4, got {size[0]} x {size[1]}"):
        family(replace(tensors, images=images), Noise(0, 0, range(2)))


def test_pixels_and_their_features_draw_the_same(clip, family: LambdaEclipse) -> None:
    kept = conditions_of(batch(clip, range(1, 2)))
    pixels = tuple(torch.from_numpy(crop(n)) for n in (1, 2))
    live = Conditions(prompts=(prompt(NOUNS),), references=(pixels,), features={})
    difference = family.sample(kept, FEW).int() - family.sample(live, FEW).int()
    # CLIP saw the crops three at a time for the features and one by one live: the last bits of vectors differ.
    assert difference.abs().max() <= 1


@pytest.mark.parametrize("given", ["subject0_clip_vector", "canny_clip_vector", "caption_clip_pooled"])
def test_subjects_control_and_text_each_change_the_vector(clip, family: LambdaEclipse, given: str) -> None:
    tensors = batch(clip, range(0, 3, 2))
    before = family.vectors(conditions_of(tensors), Noise(0, 0, range(2)))
    features = {**tensors.features, given: tensors.features[given] + 1}
    after = family.vectors(conditions_of(replace(tensors, features=features)), Noise(0, 0, range(2)))
    assert (before - after).abs().max() > 1e-4


def test_no_control_is_the_vector_of_no_picture(clip, family: LambdaEclipse) -> None:
    torch.testing.assert_close(family.get_buffer("no_picture"), clip.see_nothing())
    tensors = batch(clip, range(1, 2))
    edges = Reference(name="canny", role="control", member=None)
    asked = structs.replace(tensors.batch.prompts[0], references=(edges, *tensors.batch.prompts[0].references))
    features = {**tensors.features, "canny_clip_vector": clip.see_nothing()[None]}
    said = Conditions(prompts=(asked,), references=((None,) * 3,), features=features)
    noise = Noise(0, 0, range(1))
    torch.testing.assert_close(family.vectors(conditions_of(tensors), noise), family.vectors(said, noise))


def test_the_decoder_alone_learns_from_the_picture_itself(clip) -> None:
    """Equation 2 needs no features: the vector is that of the photo."""
    torch.manual_seed(0)
    family = replace(TINY, learns="decoder").build()
    losses = family(batch(clip, range(2), has_features=False), Noise(0, 0, range(2)))
    assert set(losses.terms) == {"eps"}
    losses.total.backward()
    assert all(parameter.grad is None for parameter in family.prior.parameters())


def test_the_prior_alone_needs_no_decoder_until_it_draws(clip) -> None:
    torch.manual_seed(0)
    family = replace(TINY, learns="prior").build()
    tensors = batch(clip, range(2))
    assert set(family(tensors, Noise(0, 0, range(2))).terms) == {"projection", "contrastive", "cut"}
    assert family.unet is None
    assert family.sample(conditions_of(tensors), FEW).shape == (2, 32, 32, 3)


def test_what_cannot_work_is_said(clip, family: LambdaEclipse) -> None:
    conditions = conditions_of(batch(clip, range(1, 2)))
    with pytest.raises(ValueError, match="can't be guided apart"):
        family.sample(conditions, SampleConfig(image_guidance_scale=2.0))
    with pytest.raises(ValueError, match="multiples of 4, got 33"):
        family.sample(conditions, SampleConfig(size=(33, 32)))
    with pytest.raises(ValueError, match="steps must be"):
        family.sample(conditions, SampleConfig(steps=0))
    long = structs.replace(prompt(()), caption="star " * 50)
    with pytest.raises(ValueError, match=r"the prompt '.{20,62}' is longer than the 32 tokens"):
        family.sample(Conditions(prompts=(long,), references=((),), features={}), FEW)
    loose = structs.replace(prompt(("star",)), references=(Reference(name="subject0", role="subject", member=None),))
    with pytest.raises(ValueError, match="goes with no word"):
        family.sample(Conditions(prompts=(loose,), references=((None,),), features={}), FEW)


@pytest.mark.parametrize("lost", ["image_clip_vector", "caption_clip_states", "subject1_clip_vector"])
def test_the_prior_learns_from_features_alone(clip, family: LambdaEclipse, lost: str) -> None:
    tensors = batch(clip, range(1, 2))
    features = {name: feature for name, feature in tensors.features.items() if name != lost}
    with pytest.raises(ValueError, match=r"sample1 has not all|has neither its pixels nor subject1_clip_vector"):
        family(replace(tensors, features=features), Noise(0, 0, range(1)))


@pytest.mark.parametrize("odd", ["image_clip_vector", "caption_clip_states", "subject0_clip_vector"])
def test_features_of_another_width_are_refused(clip, family: LambdaEclipse, odd: str) -> None:
    tensors = batch(clip, range(1, 2))
    features = {**tensors.features, odd: tensors.features[odd][..., :64]}
    with pytest.raises(ValueError, match="64 channels, the prior takes 128"):
        family(replace(tensors, features=features), Noise(0, 0, range(1)))


def test_features_of_any_lengths_teach_what_padded_ones_teach(clip, family: LambdaEclipse) -> None:
    """The engine keeps states without what fills up, so that a batch's are of several lengths."""
    tensors, noise = batch(clip, range(3)), Noise(0, 0, range(3))
    states = tensors.features["caption_clip_states"]
    assert isinstance(states, torch.Tensor)
    ragged = {**tensors.features, "caption_clip_states": tuple(row[: 14 + n] for n, row in enumerate(states))}
    whole, short = family(tensors, noise), family(replace(tensors, features=ragged), noise)
    assert torch.equal(whole.total, short.total)


def test_the_prior_learns_in_bfloat16_from_float16_of_any_lengths(clip, family: LambdaEclipse) -> None:
    """Features are stored in float16, and recipes for GPUs compute in bfloat16."""
    tensors, noise = batch(clip, range(3)), Noise(0, 0, range(3))
    half = {name: _halves(feature) for name, feature in tensors.features.items()}
    with torch.autocast("cpu", torch.bfloat16):
        losses = family(replace(tensors, features=half), noise)
    assert losses.total.item() == pytest.approx(family(tensors, noise).total.item(), rel=0.05)


def _halves(feature: torch.Tensor | tuple[torch.Tensor | None, ...]) -> tuple[torch.Tensor | None, ...]:
    return tuple(None if row is None else row.half() for row in feature)


def test_long_captions_are_counted(clip, family: LambdaEclipse) -> None:
    tensors = batch(clip, range(1, 3))
    long = structs.replace(tensors.batch.prompts[0], caption=CAPTION + " and a star" * 20)
    cut = replace(tensors, batch=replace(tensors.batch, prompts=(long, tensors.batch.prompts[1])))
    assert float(family(cut, Noise(0, 0, range(2))).terms["cut"]) == 0.5


def test_parts_that_do_not_fit_are_named_with_their_sizes() -> None:
    with pytest.raises(ValueError, match="has vectors of 128 and 32 tokens; the prior has 64"):
        replace(TINY, prior=replace(TINY.prior, dim=64), learns="prior").build()
    unet = KandinskySizes(
        channels=(16, 32), layers=1, head_dim=8, context_dim=8, vector_dim=64, latent_channels=4, groups=8
    )
    with pytest.raises(ValueError, match="the decoder takes vectors of 64"):
        replace(TINY, decoder=replace(TINY.decoder, unet=unet)).build()


def test_a_prior_that_learns_by_contrast_says_that_its_batches_are_not_to_be_parted(family, clip):
    def loss(numbers: range) -> float:
        return family(batch(clip, numbers), Noise(0, 0, numbers)).total.item()

    halves = (loss(range(2)) + loss(range(2, 4))) / 2
    assert abs(loss(range(4)) - halves) > 0.01
    assert TINY.contrasts_samples
    assert not replace(TINY, learns="decoder").contrasts_samples
    assert not replace(TINY, loss=PriorLoss(contrastive_weight=0)).contrasts_samples
