"""Against diffusers' own pipeline with the same weights, and what the pipeline can't do."""

import pytest
import torch

from training.diffusion.sampler import Guidance, sample_latents, set_steps
from training.diffusion.schedule import NoiseSchedule
from training.noise import Noise
from training.torchvision_compat import ensure_torchvision

ensure_torchvision()

from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel  # noqa: E402

SHAPE = (4, 8, 8)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()


@pytest.fixture(scope="module")
def contexts():
    torch.manual_seed(1)
    return torch.randn(2, 5, 12), torch.randn(2, 5, 12)


def pipeline(unet, scheduler):
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
    )
    built = StableDiffusionPipeline(
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    built.set_progress_bar_config(disable=True)
    return built


def denoiser(unet, context):
    return lambda latents, timestep: unet(latents, timestep, context).sample


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_latents_are_bit_equal_to_those_of_diffusers_pipeline(unet, contexts, prediction):
    null, full = contexts
    scheduler, noise = NoiseSchedule(prediction=prediction).ddim(), Noise(4, 0, range(2))
    theirs = pipeline(unet, scheduler)(
        prompt_embeds=full,
        negative_prompt_embeds=null,
        latents=noise.normal("latents", SHAPE),
        num_inference_steps=10,
        guidance_scale=5.0,
        output_type="latent",
    ).images
    guided = Guidance(scale=5.0).apply(denoiser(unet, torch.cat(contexts)))
    assert torch.equal(sample_latents(guided, set_steps(scheduler, 10), noise, SHAPE, "cpu"), theirs)


def test_fifty_steps_are_the_timesteps_of_stable_diffusion():
    asked = []
    sample_latents(
        lambda latents, timestep: asked.append(int(timestep)) or latents,
        set_steps(NoiseSchedule().ddim(), 50),
        Noise(0, 0, range(1)),
        (1, 1, 1),
        "cpu",
    )
    assert asked == list(range(981, 0, -20))


def test_ddim_with_the_true_noise_ends_at_the_clean_picture():
    clean, scheduler = torch.full((1, 1, 2, 2), 0.5), NoiseSchedule().ddim()

    def denoise(latents, timestep):
        alpha = scheduler.alphas_cumprod[timestep]
        return (latents - alpha.sqrt() * clean) / (1 - alpha).sqrt()

    drawn = sample_latents(denoise, set_steps(scheduler, 20), Noise(0, 0, range(1)), (1, 2, 2), "cpu")
    final = scheduler.alphas_cumprod[0]  # the last step ends at this, not at no noise: set_alpha_to_one is off
    assert (drawn - final.sqrt() * clean).abs().max() < 4 * (1 - final).sqrt()


@pytest.mark.parametrize("scheduler", [NoiseSchedule().ddim(), DDPMScheduler()], ids=["ddim", "ddpm"])
def test_a_picture_does_not_depend_on_those_beside_it(scheduler):
    def draw(slots):
        return sample_latents(
            lambda latents, timestep: latents * 0.1, set_steps(scheduler, 6), Noise(0, 0, slots), SHAPE, "cpu"
        )

    assert torch.equal(draw(range(3))[2:], draw(range(2, 3)))


def test_a_set_scheduler_leaves_the_given_one_as_it_was():
    scheduler = NoiseSchedule().ddim()
    set_steps(scheduler, 3)
    assert len(scheduler.timesteps) == 1000


def test_equal_scales_guide_as_one():
    null, text, full = torch.randn(3, 2, 4)
    apart = Guidance(scale=5.0, image_scale=5.0).combine([null, text, full])
    torch.testing.assert_close(apart, Guidance(scale=5.0).combine([null, full]))


def test_image_scale_1_and_scale_1_are_the_plain_prediction():
    null, text, full = torch.randn(3, 2, 4)
    torch.testing.assert_close(Guidance(scale=1.0, image_scale=1.0).combine([null, text, full]), full)
    torch.testing.assert_close(Guidance(scale=1.0, image_scale=0.0).combine([null, text, full]), text)
    assert Guidance(scale=1.0).branches == 1


def test_guidance_needs_a_prediction_a_branch():
    with pytest.raises(ValueError, match="2 predictions are to be combined, got 3"):
        Guidance(scale=2.0).combine([torch.zeros(1)] * 3)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ({"scale": 0.5}, "guidance scale must be 1"),
        ({"scale": float("nan")}, "guidance scale must be 1"),
        ({"scale": 1000.0}, "to 100, got 1000"),
        ({"scale": 2.0, "image_scale": -1.0}, "image guidance scale must be 0 to 100, got -1"),
    ],
)
def test_scales_out_of_range_are_told(scales, message):
    with pytest.raises(ValueError, match=message):
        Guidance(**scales)


@pytest.mark.parametrize(("steps", "message"), [(0, "steps must be 1 to 1000"), (1001, "got 1001"), (1000, "take 999")])
def test_steps_out_of_range_are_told(steps, message):
    with pytest.raises(ValueError, match=message):
        set_steps(NoiseSchedule().ddim(), steps)


@pytest.mark.parametrize(("steps", "few", "more"), [(334, 333, 375), (501, 500, 750), (749, 500, 750)])
def test_steps_that_do_not_begin_in_noise_are_told_with_those_that_do(steps, few, more):
    with pytest.raises(ValueError, match=rf"{steps} steps, .* begin at .*: take {few}, or {more} and more"):
        set_steps(NoiseSchedule().ddim(), steps)
    for fine in (1, 2, 3, few, more, 999):
        set_steps(NoiseSchedule().ddim(), fine)
