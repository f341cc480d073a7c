import pytest
import torch

from training.diffusion.objective import diffuse, squared_error
from training.diffusion.schedule import NoiseSchedule
from training.noise import Noise

CLEAN = torch.linspace(-1, 1, 4 * 3 * 8 * 8).reshape(4, 3, 8, 8)


def test_the_noisy_latents_are_those_of_equation_4():
    scheduler = NoiseSchedule().ddim()
    diffused = diffuse(CLEAN, Noise(0, 7, range(4)), scheduler)
    alpha = scheduler.alphas_cumprod[diffused.timesteps].double()[:, None, None, None]
    expected = alpha.sqrt() * CLEAN + (1 - alpha).sqrt() * diffused.target
    torch.testing.assert_close(diffused.latents.double(), expected, atol=1e-6, rtol=0)


def test_v_is_the_velocity_of_salimans_and_ho():
    eps = diffuse(CLEAN, Noise(0, 7, range(4)), NoiseSchedule().ddim())
    v = diffuse(CLEAN, Noise(0, 7, range(4)), NoiseSchedule(prediction="v_prediction").ddim())
    alpha = NoiseSchedule().ddim().alphas_cumprod[v.timesteps][:, None, None, None]
    torch.testing.assert_close(v.target, alpha.sqrt() * eps.target - (1 - alpha).sqrt() * CLEAN)
    torch.testing.assert_close(v.latents, eps.latents)


def test_a_sample_is_diffused_alike_in_any_batch():
    whole = diffuse(CLEAN, Noise(3, 5, range(4)), NoiseSchedule().ddim())
    part = diffuse(CLEAN[2:], Noise(3, 5, range(2, 4)), NoiseSchedule().ddim())
    assert torch.equal(whole.latents[2:], part.latents)
    assert torch.equal(whole.timesteps[2:], part.timesteps)
    assert torch.equal(whole.target[2:], part.target)


def test_timesteps_cover_the_schedule_evenly():
    clean = torch.zeros(20000, 1, 1, 1)
    timesteps = diffuse(clean, Noise(0, 0, range(20000)), NoiseSchedule().ddim()).timesteps
    assert timesteps.min() < 10
    assert timesteps.max() > 989
    counts = torch.histc(timesteps.float(), 10, 0, 1000)
    assert (counts - 2000).abs().max() < 5 * 2000**0.5


def test_the_error_is_a_mean_per_sample():
    error = squared_error(CLEAN, CLEAN + torch.arange(4.0)[:, None, None, None])
    torch.testing.assert_close(error, torch.tensor([0.0, 1.0, 4.0, 9.0]))


def test_slots_and_samples_are_as_many():
    with pytest.raises(ValueError, match="noise is for 3 slots, the batch has 4 samples"):
        diffuse(CLEAN, Noise(0, 0, range(3)), NoiseSchedule().ddim())
