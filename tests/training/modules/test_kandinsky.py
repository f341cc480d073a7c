"""Kandinsky 2.2's decoder: its size, and against diffusers' pipeline with the same weights and noise."""

import numpy as np
import pytest
import torch

from training.diffusion.sampler import Guidance, sample_latents, set_steps
from training.diffusion.schedule import NoiseSchedule
from training.modules.autoencoder import to_pictures
from training.modules.kandinsky import (
    KANDINSKY_MOVQ,
    KANDINSKY_UNET,
    KandinskySizes,
    MovqSizes,
    build_kandinsky,
    build_movq,
    predict,
)
from training.noise import Noise
from training.torchvision_compat import ensure_torchvision

ensure_torchvision()

from diffusers import KandinskyV22Pipeline  # noqa: E402

UNET = KandinskySizes(
    channels=(32, 64), layers=1, head_dim=8, context_dim=16, vector_dim=24, latent_channels=4, groups=8
)
MOVQ = MovqSizes(channels=(32, 32), layers=1, latent_channels=4, entries=8)


def test_full_sizes_are_those_of_kandinsky() -> None:
    with torch.device("meta"):
        unet, movq = build_kandinsky(KANDINSKY_UNET), build_movq(KANDINSKY_MOVQ)
    assert sum(parameter.numel() for parameter in unet.parameters()) == 1_253_057_288
    assert sum(parameter.numel() for parameter in movq.parameters()) == 67_832_495
    assert unet.config.out_channels == 8


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_pictures_are_those_of_diffusers_pipeline(scale: float) -> None:
    torch.manual_seed(0)
    unet, movq = build_kandinsky(UNET).eval(), build_movq(MOVQ)
    scheduler = NoiseSchedule(kind="linear").ddim()
    noise, vectors, null = Noise(0, 0, range(2)), torch.randn(2, 24), torch.randn(24)
    pipeline = KandinskyV22Pipeline(unet=unet, scheduler=scheduler, movq=movq.network)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        image_embeds=vectors,
        negative_image_embeds=null.expand(2, -1),
        height=16,
        width=24,
        num_inference_steps=5,
        guidance_scale=scale,
        latents=noise.normal("latents", (4, 8, 12)),
        output_type="np",
    ).images
    guidance = Guidance(scale=scale)
    seen = torch.cat([null.expand(2, -1), vectors] if guidance.branches == 2 else [vectors])
    denoise = guidance.apply(lambda latents, timestep: predict(unet, latents, timestep, seen))
    ours = movq.decode(sample_latents(denoise, set_steps(scheduler, 5), noise, (4, 8, 12), "cpu"))
    # Both round the same float32 pictures to 8 bits; a value on the edge may fall to either side.
    assert np.abs(ours.numpy().astype(float) - theirs * 255).max() <= 1
    assert ours.shape == (2, 16, 24, 3)


def test_latents_of_pictures_are_not_quantised() -> None:
    movq = build_movq(MOVQ)
    images = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    latents = movq.encode(images, Noise(0, 0, range(2)))
    assert latents.shape == (2, 4, 8, 8) and len(latents.unique()) > 2 * 4 * 8
    assert movq.decode(latents).shape == images.shape
    assert torch.equal(to_pictures(torch.full((1, 3, 2, 2), 9.0)), torch.full((1, 2, 2, 3), 255, dtype=torch.uint8))
