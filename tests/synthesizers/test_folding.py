from __future__ import annotations

import diffusers
import pytest
import torch

from torchgenaug.synthesizers.folding import fold, run_folded

LINEAR = {
    "DDIM": diffusers.DDIMScheduler(clip_sample=False),
    "DDIM, v": diffusers.DDIMScheduler(clip_sample=False, prediction_type="v_prediction"),
    "DDIM, sample": diffusers.DDIMScheduler(clip_sample=False, prediction_type="sample"),
    "Euler": diffusers.EulerDiscreteScheduler(),
    "Euler, Karras": diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, prediction_type="v_prediction"),
    "flow matching": diffusers.FlowMatchEulerDiscreteScheduler(shift=2.0),
}
OTHERS = {
    "clips": diffusers.DDIMScheduler(clip_sample=True),
    "thresholds": diffusers.DDIMScheduler(clip_sample=False, thresholding=True),
    "remembers": diffusers.DPMSolverMultistepScheduler(),
    "corrects": diffusers.UniPCMultistepScheduler(),
    "calls twice": diffusers.HeunDiscreteScheduler(),
    "Runge-Kutta": diffusers.PNDMScheduler(),
}


def net(latents, timestep):
    """A network that is not linear, so that an error in one step shows in all that follow."""
    return torch.sin(2 * latents) + 0.001 * float(timestep)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_folded_steps_are_the_schedulers(name, steps):
    scheduler = LINEAR[name]
    scheduler.set_timesteps(steps)
    folded = fold(scheduler)
    assert folded is not None
    assert len(folded) == steps
    start = torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    start = start * getattr(scheduler, "init_noise_sigma", 1.0)
    got = run_folded(folded, start.clone(), lambda number, x: net(x, scheduler.timesteps[number]))
    fresh = type(scheduler).from_config(scheduler.config)
    fresh.set_timesteps(steps)
    expected = start
    for timestep in fresh.timesteps:
        scaled = fresh.scale_model_input(expected, timestep) if hasattr(fresh, "scale_model_input") else expected
        expected = fresh.step(net(scaled, timestep), timestep, expected, return_dict=False)[0]
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max().clamp(min=1)


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_left_alone(name):
    scheduler = OTHERS[name]
    scheduler.set_timesteps(6)
    assert fold(scheduler) is None


def test_folding_does_not_change_the_scheduler():
    scheduler = diffusers.EulerDiscreteScheduler()
    scheduler.set_timesteps(5)
    fold(scheduler)
    assert scheduler.step_index is None
