from __future__ import annotations

import diffusers
import pytest
import torch

from torchgenaug.errors import ConfigurationError
from torchgenaug.synthesizers.diffusion.editing import prepare_edit, run_edit


def edit(scheduler=None, steps=10, strength=0.5, *, from_noise=False):
    chosen = scheduler or diffusers.DDIMScheduler(clip_sample=False)
    return prepare_edit(chosen, steps, strength, from_noise=from_noise, channels=2, device=torch.device("cpu"))


def walk(made, mask=None):
    """Times that the network saw, and the result for a source of ones whose noise the network knows."""
    source, noise, times = torch.ones(2, 2, 4, 4), torch.randn(2, 2, 4, 4), []

    def predict(latents, timestep):
        times.append(float(timestep))
        return noise

    return times, run_edit(made, predict, source, noise, [1, 2], mask)


@pytest.mark.parametrize(("strength", "count"), [(0.1, 1), (0.55, 5), (1.0, 10)])
def test_strength_is_the_share_of_steps(strength, count):
    times, _ = walk(edit(strength=strength))
    assert len(times) == count
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("scheduler", [diffusers.DDIMScheduler(clip_sample=False), diffusers.EulerDiscreteScheduler()])
def test_a_network_that_knows_the_noise_finds_the_source_again(scheduler):
    _, found = walk(edit(scheduler))
    assert (found - 1).abs().max() <= 0.1


def test_what_the_mask_leaves_out_is_the_source_exactly():
    mask = torch.zeros(2, 1, 4, 4)
    mask[..., 2:] = 1
    _, found = walk(edit(diffusers.EulerAncestralDiscreteScheduler(), from_noise=True, strength=1.0), mask)
    assert (found[..., :2] == 1).all()
    assert (found[..., 2:] != 1).any()


def test_lcm_spreads_its_steps_as_diffusers_does():
    times, _ = walk(edit(diffusers.LCMScheduler(), strength=0.5))
    theirs = diffusers.LCMScheduler()
    theirs.set_timesteps(10, strength=0.5)
    assert times == theirs.timesteps.tolist()


def test_only_schedulers_that_draw_are_given_generators():
    assert not edit().draws_noise
    assert edit(diffusers.DDPMScheduler(clip_sample=False)).draws_noise


def test_what_cannot_work_is_refused():
    with pytest.raises(ConfigurationError, match="`strength` must leave at least one of 10 steps"):
        edit(strength=0.05)
    with pytest.raises(ConfigurationError, match="must be able to start at a noised image"):
        edit(diffusers.FlowMatchEulerDiscreteScheduler())
