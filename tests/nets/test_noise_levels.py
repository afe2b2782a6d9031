from __future__ import annotations

import pytest
import torch

from torchgenaug.nets.noise_levels import level, posterior_step
from torchgenaug.synthesizers import build_network

UNET = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "num_res_blocks": 1,
    "channels": [4, 4],
    "attention_levels": [False, False],
    "norm_num_groups": 2,
    "num_head_channels": 2,
}


@pytest.mark.parametrize("equation", ["vp", "ve"])
def test_a_step_ends_at_the_noise_level_of_its_time(equation):
    """x_s drawn through x_t has mean alpha_s x and deviation sigma_s, whatever t is."""
    draw = torch.Generator().manual_seed(0)
    image = torch.full((200_000, 1), 0.7)
    here, there = (level(torch.tensor([time]), equation, 10.0, 2) for time in (0.8, 0.3))
    noisy = here[0] * image + here[1] * torch.randn(image.shape, generator=draw)
    made = posterior_step(noisy, image, here, there, torch.randn(image.shape, generator=draw))
    assert made.mean().item() == pytest.approx(0.7 * there[0].item(), abs=0.01)
    assert made.std().item() == pytest.approx(there[1].item(), rel=0.01)


@pytest.mark.parametrize("equation", ["vp", "ve"])
@pytest.mark.parametrize("corrector", [False, True])
def test_the_true_score_of_gaussian_images_gives_their_deviation(monkeypatch, equation, corrector):
    """Images of deviation 0.2: the noise in x_t is sigma x_t / (0.04 alpha² + sigma²) in the mean."""
    sampler = build_network(
        "torchgenaug:ScoreSampler",
        shape=[1, 8, 8],
        unet=UNET,
        equation=equation,
        sigma_max=10.0,
        steps=60,
        corrector=corrector,
    )

    def noise_in(noisy, time, condition):
        alpha, sigma = sampler.level(time, noisy.ndim)
        return sigma * noisy / (0.04 * alpha**2 + sigma**2)

    monkeypatch.setattr(sampler, "noise_in", noise_in)
    latents = torch.randn((64, *sampler.latent_shape), generator=torch.Generator().manual_seed(0))
    assert sampler(latents).std().item() == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("equation", ["vp", "ve"])
@pytest.mark.parametrize("prediction", ["noise", "velocity"])
def test_noise_and_image_follow_from_what_is_predicted(monkeypatch, equation, prediction):
    sampler = build_network(
        "torchgenaug:ScoreSampler", shape=[1, 8, 8], unet=UNET, equation=equation, sigma_max=10.0, prediction=prediction
    )
    draw = torch.Generator().manual_seed(0)
    image, noise = (torch.randn((3, 1, 8, 8), generator=draw) for _ in range(2))
    time = torch.tensor([0.01, 0.4, 0.7])
    alpha, sigma = sampler.level(time, 4)
    monkeypatch.setattr(sampler, "predicted", lambda noisy, time, condition: sampler.target(image, noise, time))
    noisy = alpha * image + sigma * noise
    torch.testing.assert_close(sampler.noise_in(noisy, time, None), noise, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sampler._clean(noisy, time, None), image, atol=1e-3, rtol=1e-3)


def test_large_steps_with_the_true_image_end_there(monkeypatch):
    denoiser = build_network(
        "torchgenaug:AdversarialDenoiser", shape=[1, 8, 8], unet=UNET | {"in_channels": 3}, latent_dim=2, steps=3
    )
    seen = []

    def clean(noisy, step, latent, condition):
        seen.append((int(step[0]), noisy.std().item()))
        return torch.full_like(noisy, 0.5)

    monkeypatch.setattr(denoiser, "clean", clean)
    images = denoiser(torch.randn((16, *denoiser.latent_shape), generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(images, torch.full_like(images, 0.5))
    for step, deviation in seen[1:]:
        wanted = denoiser.level(torch.tensor([step]), 2)[1].item()
        assert deviation == pytest.approx(wanted, rel=0.15)
    assert [step for step, _ in seen] == [3, 2, 1]
