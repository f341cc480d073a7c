import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.modules.autoencoder import KlSizes, PixelSizes, build_autoencoder, to_pictures, to_signed
from training.noise import Noise
from training.weights import Weights

SIZES = KlSizes(channels=(8, 8, 8), layers=1, latent_channels=4, groups=4, scaling_factor=0.2)


def images(count=2, height=8, width=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def kl():
    torch.manual_seed(0)
    return build_autoencoder(SIZES)


@given(st.sampled_from([1, 2, 4]), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_pixels_come_back_as_they_were(patch, seed):
    pixels = build_autoencoder(PixelSizes(patch=patch))
    latents = pixels.encode(images(seed=seed), Noise(0, 0, range(2)))
    assert latents.shape == (2, pixels.channels, 8 // patch, 12 // patch)
    assert torch.equal(pixels.decode(latents), images(seed=seed))


def test_signed_values_are_clipped_to_what_pictures_show():
    assert to_pictures(torch.tensor([-2.0, -1, 0, 1, 2]).reshape(1, 1, 1, 5)).flatten().tolist() == [
        0,
        0,
        128,
        255,
        255,
    ]
    assert torch.equal(to_pictures(to_signed(images())), images())


def test_latents_are_drawn_from_the_posterior_of_diffusers_and_scaled(kl):
    posterior = kl.network.encode(to_signed(images())).latent_dist
    eps = Noise(0, 0, range(2)).normal("posterior", (4, 2, 3))
    expected = (posterior.mean + posterior.std * eps) * 0.2
    torch.testing.assert_close(kl.encode(images(), Noise(0, 0, range(2))), expected.detach())
    assert (kl.factor, kl.channels) == (4, 4)


def test_a_picture_is_encoded_and_decoded_alike_beside_any_others(kl):
    latents = kl.encode(images(), Noise(0, 0, range(2)))
    alone = kl.encode(images()[1:], Noise(0, 0, range(1, 2)))
    torch.testing.assert_close(latents[1:], alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(kl.decode(latents)[1:], kl.decode(latents[1:]))


def test_pictures_of_no_whole_number_of_latents_are_told(kl):
    for autoencoder, multiple in ((kl, 4), (build_autoencoder(PixelSizes(patch=8)), 8)):
        with pytest.raises(ValueError, match=f"multiples of {multiple}, got 10 x 8"):
            autoencoder.encode(images(width=10), Noise(0, 0, range(2)))


def test_pictures_come_back_at_their_size(kl):
    assert kl.decode(kl.encode(images(), Noise(0, 0, range(2)))).shape == images().shape


def test_it_is_frozen_and_stays_in_evaluation(kl):
    assert not any(p.requires_grad for p in kl.parameters())
    assert not any(part.training for part in kl.train().modules())


def test_it_comes_from_a_folder_or_fresh_in_its_sizes(kl, tmp_path):
    kl.network.save_pretrained(tmp_path)
    loaded = build_autoencoder(Weights(name=str(tmp_path)))
    fresh = build_autoencoder(Weights(name=str(tmp_path)), load=False)
    assert all(torch.equal(a, b) for a, b in zip(kl.parameters(), loaded.parameters(), strict=True))
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in kl.parameters()]
